"""Euclidean projections onto simple sets, differentiable in their point and in the set's size.

The derivative is that of the closed form, in both modes; on the set's edge, where none exists, it
is one of the two sides'.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from omd.errors import InputError
from omd.implicit import validation
from omd.implicit.trees import norm


def simplex(v: Real[Array | np.ndarray, " n"], total: ArrayLike = 1.0) -> Float[Array, " n"]:
    """The nearest x with x ≥ 0 and Σ x = total > 0: max(v − τ, 0), τ found by sorting.

    Raises `InputError` where v is no vector with an entry, or total isn't above 0.
    """
    v = _point(v)
    if v.ndim != 1 or not v.size:
        raise InputError(f"a simplex holds vectors of one entry or more, not shape {v.shape}.")
    validation.number("total", total, positive=True)
    total = _size("total", total, v[0])
    v = v - jax.lax.stop_gradient(jnp.max(v))  # moves nothing, and large entries keep their digits
    ordered = -jnp.sort(-v)
    count = jnp.arange(1, v.size + 1)
    thresholds = (jnp.cumsum(ordered) - total) / count
    kept = jnp.sum(ordered > thresholds)
    return jnp.maximum(v - thresholds[kept - 1], 0)


def ball(v: Real[Array | np.ndarray, " ..."], radius: ArrayLike = 1.0) -> Float[Array, " ..."]:
    """The nearest x with ‖x‖₂ ≤ radius. Raises `InputError` where radius is below 0."""
    v = _point(v)
    validation.number("radius", radius)
    radius = _size("radius", radius, v)
    unit = jax.lax.stop_gradient(jnp.max(jnp.abs(v), initial=0.0))
    unit = jnp.where((unit > 0) & jnp.isfinite(unit), unit, 1)
    outside = norm(jax.lax.stop_gradient(v)) > radius
    length = jnp.sqrt(jnp.where(outside, jnp.sum((v / unit) ** 2), 1))
    return jnp.where(outside, (v / unit) * (radius / length), v)


def box(
    v: Real[Array | np.ndarray, " ..."], low: ArrayLike = -jnp.inf, high: ArrayLike = jnp.inf
) -> Float[Array, " ..."]:
    """The nearest x with low ≤ x ≤ high, entry by entry.

    Raises `InputError` where a lower bound is above the upper one.
    """
    v = _point(v)
    low, high = _size("low", low, v), _size("high", high, v)
    traced = any(isinstance(end, jax.core.Tracer) for end in (low, high))
    if not traced and not np.all(np.asarray(low) <= np.asarray(high)):
        raise InputError(f"a box needs low ≤ high in every entry, not {low!r} and {high!r}.")
    return jnp.minimum(jnp.maximum(v, low), high)


def _size(name: str, value: ArrayLike, v: Array) -> ArrayLike:
    """The size of a set, checked: real numbers, one or one for each entry of v."""
    validation.is_real(name, value)
    try:
        given = jnp.asarray(value)
        fits = jnp.broadcast_shapes(given.shape, v.shape) == v.shape
        good = fits and jnp.issubdtype(given.dtype, jnp.number)
    except (TypeError, ValueError):
        good = False
    if not good:
        one = "one number" if v.ndim == 0 else f"one number, or an array of the shape {v.shape}"
        raise InputError(f"{name} must be {one}, not {value!r}.")
    return value


def _point(v: Array | np.ndarray) -> Float[Array, " ..."]:
    try:
        v = jnp.asarray(v)
    except (TypeError, ValueError):
        raise InputError(f"the point must be one array, not {type(v).__name__}.") from None
    validation.is_real("the point", v)
    if not (jnp.issubdtype(v.dtype, jnp.number) or v.dtype == bool):
        raise InputError(f"the point must hold numbers, not {v.dtype}.")
    return v if jnp.issubdtype(v.dtype, jnp.floating) else v.astype(jnp.result_type(float))
