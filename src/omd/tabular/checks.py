"""Input of the tabular room, checked where it is concrete: one sentence for what is wrong."""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from omd.errors import InputError


def real_array(name: str, value: Any) -> Any:
    """`value` as an array of real numbers in its own precision, so that checks see what was given.

    Raises `InputError` for anything else, ragged lists among it.
    """
    if isinstance(value, jax.Array):
        array: Any = value
    elif np.ma.is_masked(value):
        raise InputError(f"{name} is a masked array, whose hidden entries would count; fill them.")
    else:
        try:
            array = np.asarray(value)
        except ValueError:
            raise InputError(
                f"{name} must be an array, but its rows have different lengths; make them equal."
            ) from None
    if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool) or jnp.issubdtype(
        array.dtype, jnp.complexfloating
    ):
        raise InputError(
            f"{name} must be an array of real numbers, but its type is {array.dtype}; "
            "convert it to floating point."
        )
    return array


def one_number(name: str, value: Any) -> Float[Array, ""] | Float[np.ndarray, ""]:
    """The value in float64; `InputError` where it is not one real number."""
    seen = value if isinstance(value, jax.Array) else np.asarray(value)
    if not (jnp.issubdtype(seen.dtype, jnp.floating) or jnp.issubdtype(seen.dtype, jnp.integer)):
        raise InputError(f"{name} must be a real number, but is {value!r}.")
    if seen.shape != ():
        raise InputError(
            f"{name} must be one number, but has shape {seen.shape}; vmap over several."
        )
    # an array of JAX takes a tenth of a millisecond to make
    wide = jnp if isinstance(seen, jax.Array) else np
    return wide.asarray(seen, np.float64)


def check_count(name: str, value: Any, minimum: int = 1) -> None:
    """Raises `InputError` where a number is no whole one from `minimum` to 2³¹ − 1."""
    kind = "b" if isinstance(value, bool) else getattr(getattr(value, "dtype", None), "kind", "i")
    try:
        number = operator.index(value) if kind in "iu" else minimum - 1
    except TypeError:
        number = minimum - 1
    if number < minimum:
        raise InputError(f"{name} must be a whole number of at least {minimum}, but is {value!r}.")
    if number >= 2**31:
        raise InputError(f"{name} must be below 2147483648, but is {value}; choose a smaller one.")
