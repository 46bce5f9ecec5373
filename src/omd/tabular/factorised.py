"""Systems of slowly mixing chains by a sparse factorisation, SuperLU's, on the host.

A chain that mixes slowly has bottlenecks, along which elimination is cheap: a walk of 10⁵ cells
takes milliseconds, where sweeps and Krylov methods have to carry news from end to end.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Array, Float, Int

MAX_STATES = 100_000
"""More are left to iterations: what elimination fills in is not known before."""


def factorised_solve(
    index: Int[Array, "S M"],
    weight: Float[Array, "S M"],
    right: Float[Array, " S"],
    *,
    transposed: bool,
) -> Float[Array, " S"]:
    """(I − W)⁻¹ right, or (I − W)⁻ᵀ right, where row s of W has weight[s, m] at index[s, m].

    NaN where the factorisation fails. No derivative.
    """

    def on_host(index, weight, right):
        weight, right = _numbers(weight), _numbers(right)
        return _bits(_solved(np.asarray(index), weight, right, transposed=transposed))

    # as bits: JAX cuts numbers of 64 on their way to a callback where they are off by default
    asked = jax.ShapeDtypeStruct((right.size, 2), jnp.uint32)
    found = jax.pure_callback(
        on_host, asked, index, *map(_as_bits, (weight, right)), vmap_method="sequential"
    )
    return jax.lax.bitcast_convert_type(found, jnp.float64)


def _solved(index: np.ndarray, weight: np.ndarray, right: np.ndarray, *, transposed: bool):
    states, width = index.shape
    if not (np.isfinite(weight).all() and np.isfinite(right).all()):
        return np.full(states, np.nan)
    # rows of I − W as they are, which are the columns of its transpose
    itself = np.arange(states, dtype=index.dtype)[:, None]
    places, entries = np.hstack([index, itself]), np.hstack([-weight, np.ones((states, 1))])
    starts = np.arange(0, places.size + 1, width + 1)
    system = scipy.sparse.csc_array((entries.ravel(), places.ravel(), starts), (states, states))
    system.sum_duplicates()
    try:
        # the largest entry of each column is on the diagonal already; columns have little in common
        factors = scipy.sparse.linalg.splu(system, diag_pivot_thresh=0.0, panel_size=4)
    except (RuntimeError, MemoryError):
        return np.full(states, np.nan)
    return factors.solve(right, "N" if transposed else "T")


def _as_bits(x: Float[Array, " ..."]) -> Array:
    return jax.lax.bitcast_convert_type(x, jnp.uint32)


def _numbers(bits: Array) -> np.ndarray:
    return np.ascontiguousarray(bits).view(np.float64)[..., 0]


def _bits(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x)[..., None].view(np.uint32)
