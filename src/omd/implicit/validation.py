"""Validation of input: one sentence with what was wrong, the value seen and what to do."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PyTree

from omd.errors import InputError
from omd.implicit.trees import floats


def count(name: str, value: Any, minimum: int = 1) -> None:
    """Raise InputError unless `value` is a whole number ≥ minimum."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
        raise InputError(f"{name} must be a whole number of at least {minimum}, not {value!r}.")


def number(
    name: str, value: ArrayLike, *, positive: bool = False, below: float | None = None
) -> None:
    """Raise InputError unless every entry is finite and ≥ 0 (> 0 if positive, < below if given).

    Values that are being traced are not known yet and pass.
    """
    if isinstance(value, jax.core.Tracer):
        return
    try:
        if np.asarray(value).dtype.kind in "US":  # text that reads as a number too
            raise TypeError
        seen = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a number, not {value!r}.") from None
    good = np.isfinite(seen) & ((seen > 0) if positive else (seen >= 0))
    if below is not None:
        good &= seen < below
    if not np.all(good):
        bound = "greater than 0" if positive else "0 or greater"
        upper = "" if below is None else f" and less than {below:g}"
        raise InputError(f"{name} must be finite, {bound}{upper}, not {value!r}.")


def has_floats(name: str, tree: PyTree) -> None:
    """Raise InputError unless some leaf is real floating point and none is complex."""
    is_real(name, tree)
    if not jax.tree.leaves(floats(tree)):
        seen = sorted({describe(leaf) for leaf in jax.tree.leaves(tree)})
        raise InputError(
            f"{name} has no floating-point array to differentiate, only "
            f"{', '.join(seen) or 'an empty pytree'}: give it floating-point values."
        )


def is_real(name: str, tree: PyTree) -> None:
    """Raise InputError if a leaf is complex."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        dtype = getattr(leaf, "dtype", None)
        is_array = dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating)
        if is_array or isinstance(leaf, complex):
            raise InputError(
                f"{name}{_at(path)} is {dtype if is_array else 'complex'}, but only real numbers "
                "are supported: split it into its real and imaginary part."
            )


def matches(
    what: str, got: PyTree, w: PyTree, hint: str = "it must return a pytree like w"
) -> None:
    """Raise InputError unless the floating leaves of `got` are like w's: where, shape and dtype;
    complex ones never are."""
    is_real(what, got)
    want_leaves = dict(jax.tree_util.tree_leaves_with_path(floats(w)))
    got_leaves = dict(jax.tree_util.tree_leaves_with_path(floats(got)))
    seen = dict(jax.tree_util.tree_leaves_with_path(got))  # an integer is worth a word too
    for path in [*want_leaves, *(p for p in got_leaves if p not in want_leaves)]:
        want, have = (
            describe(leaves[path]) if path in leaves else "nothing"
            for leaves in (want_leaves, {**seen, **got_leaves})
        )
        if want != have:
            raise InputError(
                f"{what} does not match w at {_at(path) or 'its only leaf'}: expected {want}, "
                f"got {have}; {hint}."
            )
    want_structure, got_structure = (str(jax.tree.structure(floats(x))) for x in (w, got))
    if want_structure != got_structure:
        raise InputError(
            f"{what} has the arrays of w in other containers: expected {want_structure}, got "
            f"{got_structure}; {hint}."
        )


def _at(path: tuple) -> str:
    return jax.tree_util.keystr(path)


def describe(leaf: Any) -> str:
    """An array's dtype and shape, or a value's type."""
    if hasattr(leaf, "dtype"):
        return f"{leaf.dtype}{list(leaf.shape)}"
    return type(leaf).__name__
