"""Krylov solvers for several right-hand sides that search one space together.

Right-hand sides are stacked along a leading axis [m] of each leaf. Inside, matrices are [n, m], a
column for each, and a product is one with m columns at once. A column that depends on the others
leaves the space, and loses nothing by it.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from omd.implicit.trees import Product

Columns = Float[Array, "n m"]
Products = Callable[[Columns], Columns]


def _as_columns(
    g: PyTree, product: Product
) -> tuple[Columns, Products, Callable[[Columns], PyTree]]:
    """(g as columns, product on columns, columns -> pytree); g's leaves have a leading axis [m]."""
    _, unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], g))

    def flat(tree: PyTree) -> Float[Array, " n"]:
        return ravel_pytree(tree)[0]

    def products(v: Columns) -> Columns:
        return jax.vmap(lambda one: flat(product(unravel(one))), 1, 1)(v)

    return jax.vmap(flat, 0, 1)(g), products, jax.vmap(unravel, 1, 0)


def conjugate_gradient(
    operator: Product,
    rights: PyTree,
    goal: ArrayLike,
    max_steps: int,
    preconditioner: Product | None = None,
) -> tuple[PyTree, Int[Array, ""]]:
    """(u, steps) with operator(u) = right, symmetric positive definite, to residuals of goal times
    each right-hand side's length. A step's directions are an orthonormal basis of what is left."""
    right, product, unravel = _as_columns(rights, operator)
    inverse = _as_columns(rights, preconditioner)[1] if preconditioner else lambda r: r
    right, length = _unit(right)

    def unfinished(carry: tuple) -> Bool[Array, ""]:
        _, r, _, kept, steps = carry
        return jnp.any(_lengths(r) > goal) & jnp.any(kept) & (steps < max_steps)

    def advance(carry: tuple) -> tuple:
        u, r, p, kept, steps = carry
        image = product(p)
        curvature = p.T @ image + jnp.diag(jnp.where(kept, 0, 1).astype(p.dtype))
        factors = jax.scipy.linalg.lu_factor(curvature)
        move = jax.scipy.linalg.lu_solve(factors, p.T @ r)
        u, r = u + p @ move, r - image @ move
        z = inverse(r)
        p, kept = _basis(z - p @ jax.scipy.linalg.lu_solve(factors, image.T @ z))
        return u, r, p, kept, steps + 1

    p, kept = _basis(inverse(right))
    carry = (jnp.zeros_like(right), right, p, kept, jnp.int32(0))
    u, _, _, _, steps = jax.lax.while_loop(unfinished, advance, carry)
    return unravel(u * length), steps


def gmres(
    operator: Product,
    rights: PyTree,
    goal: ArrayLike,
    restart: int,
    max_restarts: int,
    preconditioner: Product | None = None,
) -> tuple[PyTree, Int[Array, ""]]:
    """(u, cycles) with operator(u) = right, to residuals of goal times each right-hand side's
    length.

    Keeps `restart` blocks of directions and of their images, the images orthonormal, so that each
    step knows its residual and a cycle ends where all are small enough.
    """
    right, product, unravel = _as_columns(rights, operator)
    inverse = _as_columns(rights, preconditioner)[1] if preconditioner else lambda r: r
    right, length = _unit(right)
    room = (restart, *right.shape)

    def left(r: Columns) -> Bool[Array, ""]:
        return jnp.any(_lengths(r) > goal)

    def cycle(carry: tuple) -> tuple:
        u, _, cycles = carry
        r = right - product(u)

        def unfinished(inner: tuple) -> Bool[Array, ""]:
            *_, r, kept, k = inner
            return left(r) & jnp.any(kept) & (k < restart)

        def advance(inner: tuple) -> tuple:
            directions, images, p, u, r, _, k = inner
            q = product(p)
            for _ in range(2):  # once more, for what rounding left
                along = jnp.einsum("knm,nj->kmj", images, q)
                q = q - jnp.einsum("knm,kmj->nj", images, along)
                p = p - jnp.einsum("knm,kmj->nj", directions, along)
            weights, kept = _weights(q)
            p, q = p @ weights, q @ weights
            move = q.T @ r
            kept_room = (directions.at[k].set(p), images.at[k].set(q))
            return *kept_room, inverse(q), u + p @ move, r - q @ move, kept, k + 1

        empty = jnp.zeros(room, right.dtype)
        start = (empty, empty, inverse(r), u, r, jnp.ones(right.shape[1], bool), 0)
        _, _, _, u, r, _, _ = jax.lax.while_loop(unfinished, advance, start)
        return u, r, cycles + 1

    def unfinished(carry: tuple) -> Bool[Array, ""]:
        _, r, cycles = carry
        return left(r) & (cycles < max_restarts)

    u, _, cycles = jax.lax.while_loop(
        unfinished, cycle, (jnp.zeros_like(right), right, jnp.int32(0))
    )
    return unravel(u * length), cycles


def _lengths(v: Columns) -> Float[Array, " m"]:
    """Of each column; neither under- nor overflows."""
    largest = jnp.max(jnp.abs(v), axis=0)
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return unit * jnp.linalg.norm(v / unit, axis=0)


def _unit(right: Columns) -> tuple[Columns, Float[Array, " m"]]:
    """(columns of length one, lengths); one that isn't finite becomes zero with its length NaN, so
    that it spoils no other answer."""
    length = _lengths(right)
    good = jnp.isfinite(length)
    unit = jnp.where(good, right, 0) / jnp.where(good & (length > 0), length, 1)
    return unit, jnp.where(good, length, jnp.nan)


def _basis(v: Columns) -> tuple[Columns, Bool[Array, " m"]]:
    """Orthonormal columns, up to rounding, for the space of v, zeros for those too many."""
    weights, kept = _weights(v)
    return v @ weights, kept


def _weights(v: Columns) -> tuple[Float[Array, "m m"], Bool[Array, " m"]]:
    """W with orthonormal columns v W, zeros for those too many, and which aren't."""
    length = _lengths(v)
    scaled = jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1), 0)
    unit = v * scaled
    values, vectors = jnp.linalg.eigh(unit.T @ unit)
    kept = values > values[-1] * 10 * jnp.finfo(v.dtype).eps
    roots = jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, values, 1)), 0)
    return scaled[:, None] * vectors * roots, kept
