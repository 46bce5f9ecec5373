"""Arithmetic on pytrees of floating-point arrays, and which leaves take part in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, PyTree

from omd.errors import InputError

Product = Callable[[PyTree], PyTree]
"""v -> (∂h/∂w)ᵀ v, or its transpose, on pytrees like the floating-point leaves of w."""


def is_float(leaf: Any) -> bool:
    """True for floating-point arrays and for `jax.ShapeDtypeStruct`s of them."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def floats(tree: PyTree) -> PyTree:
    """The same tree with `None` for every leaf that is not floating point."""
    return eqx.filter(tree, is_float)


def as_arrays(tree: PyTree, like: PyTree = None) -> PyTree:
    """Python floats and NumPy arrays become JAX arrays; anything else is left alone.

    Python floats, and weakly typed arrays, get the widest precision of the arrays in `like`.
    """
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(floats(like))]
    weakly = jnp.result_type(*dtypes) if dtypes else jnp.result_type(float)

    def convert(leaf):
        if not (isinstance(leaf, float) or eqx.is_array(leaf)):
            return leaf
        array = jnp.asarray(leaf)
        # a weakly typed tracer may carry a Python float that filters don't take for an array
        if not getattr(array, "weak_type", False):
            return array
        return jax.lax.convert_element_type(array, weakly if is_float(array) else array.dtype)

    return jax.tree.map(convert, tree)


def widened(tree: PyTree) -> PyTree:
    """The same tree with half-precision arrays in float32, in which LAPACK and tolerances work."""
    return jax.tree.map(_widen, tree)


def _widen(leaf: Any) -> Any:
    if not is_float(leaf) or jnp.finfo(leaf.dtype).bits >= 32:
        return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape, jnp.float32)
    return leaf.astype(jnp.float32)


def in_one_precision(
    product: Product, g: PyTree
) -> tuple[Product, PyTree, Callable[[PyTree], PyTree]]:
    """(product, g, back) with all leaves in the widest of g's precisions, float32 at least.

    `back` gives each leaf its own precision again.
    """
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(g)]
    widest = jnp.result_type(*dtypes, jnp.float32) if dtypes else jnp.float32
    if jnp.issubdtype(widest, jnp.complexfloating):
        raise InputError(
            f"the right-hand side is {widest}, but only real numbers are supported: split it into "
            "its real and imaginary part."
        )
    if all(dtype == widest for dtype in dtypes):
        return product, g, lambda u: u

    def back(u: PyTree) -> PyTree:
        return jax.tree.map(lambda ui, gi: ui.astype(gi.dtype), u, g)

    def wide(u: PyTree) -> PyTree:
        return jax.tree.map(lambda x: x.astype(widest), u)

    return lambda v: wide(product(back(v))), wide(g), back


def scale(factor: ArrayLike, x: PyTree) -> PyTree:
    """factor · x, each leaf keeping its dtype."""
    return jax.tree.map(lambda xi: jnp.asarray(factor, xi.dtype) * xi, x)


def axpy(factor: ArrayLike, x: PyTree, y: PyTree) -> PyTree:
    """factor · x + y, each leaf keeping the dtype of x's."""
    return jax.tree.map(lambda xi, yi: jnp.asarray(factor, xi.dtype) * xi + yi, x, y)


def subtract(x: PyTree, y: PyTree) -> PyTree:
    """x − y."""
    return jax.tree.map(jnp.subtract, x, y)


def dot(x: PyTree, y: PyTree) -> Float[Array, ""]:
    """Σ xᵢ yᵢ over all leaves."""
    products = jax.tree.map(lambda a, b: jnp.vdot(a, b, precision="highest"), x, y)
    return sum(jax.tree.leaves(products), start=jnp.zeros(()))


def norm(x: PyTree) -> Float[Array, ""]:
    """Euclidean norm over all leaves, safe where the squares would under- or overflow."""
    leaves = [jnp.abs(leaf) for leaf in jax.tree.leaves(x) if leaf.size]
    if not leaves:
        return jnp.zeros(())
    largest = jnp.stack([jnp.max(leaf) for leaf in leaves]).max()
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return unit * jnp.sqrt(sum(jnp.sum((leaf / unit) ** 2) for leaf in leaves))


def dense_matrix(
    vjp: Product, g: PyTree
) -> tuple[Float[Array, "n n"], Float[Array, " n"], Callable]:
    """((∂h/∂w)ᵀ as a matrix [n, n], g as a vector [n], vector -> pytree), by n products."""
    flat, unravel = ravel_pytree(g)
    rows = jax.vmap(lambda e: ravel_pytree(vjp(unravel(e)))[0])(
        jnp.eye(flat.size, dtype=flat.dtype)
    )
    return rows.T, flat, unravel
