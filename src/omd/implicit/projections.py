"""Euclidean projections onto simple sets, differentiable in their point and in the set's size.

The derivative is that of the closed form, in both modes; on the set's edge, where none exists, it
is one of the two sides'.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float


def simplex(v: Float[Array | np.ndarray, " n"], total: ArrayLike = 1.0) -> Float[Array, " n"]:
    """The nearest x with x ≥ 0 and Σ x = total > 0: max(v − τ, 0), τ found by sorting."""
    ordered = -jnp.sort(-v)
    count = jnp.arange(1, v.size + 1)
    thresholds = (jnp.cumsum(ordered) - total) / count
    kept = jnp.sum(ordered > thresholds)
    return jnp.maximum(v - thresholds[kept - 1], 0)


def ball(v: Float[Array | np.ndarray, " ..."], radius: ArrayLike = 1.0) -> Float[Array, " ..."]:
    """The nearest x with ‖x‖₂ ≤ radius."""
    v = jnp.asarray(v)
    square = jnp.sum(v**2)
    outside = square > jnp.asarray(radius) ** 2
    length = jnp.sqrt(jnp.where(outside, square, 1))
    return jnp.where(outside, v * (radius / length), v)


def box(
    v: Float[Array | np.ndarray, " ..."], low: ArrayLike = -jnp.inf, high: ArrayLike = jnp.inf
) -> Float[Array, " ..."]:
    """The nearest x with low ≤ x ≤ high, entry by entry."""
    return jnp.minimum(jnp.maximum(v, low), high)
