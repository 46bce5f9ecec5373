"""Sparse transitions as padded lists of successors: what `MDP` keeps for a sparse P."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import sparse
from jaxtyping import Array, Float, Int

from omd.errors import InputError


class Successors(eqx.Module):
    """At most K successors of every pair: p(index[s, a, k] | s, a) = probability[s, a, k].

    A row with fewer than K successors is padded with probability 0 (at any valid index), and an
    index that occurs twice in a row counts with the sum. An expectation over next states is a
    gather over K, which on a CPU is several times faster than a product with a BCOO matrix.
    """

    index: Int[Array, "S A K"]
    probability: Float[Array, "S A K"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """[S, A, S'], the shape of the dense array that this stands for."""
        states, actions, _ = self.probability.shape
        return states, actions, states

    def todense(self) -> Float[Array, "S A S"]:
        """The transition probabilities as one dense array [S, A, S']."""
        states, actions, _ = self.shape
        s, a = jnp.ogrid[:states, :actions]
        dense = jnp.zeros(self.shape, self.probability.dtype)
        return dense.at[s[..., None], a[..., None], self.index].add(self.probability)


def from_dense(transition: Float[Array, "S A S"]) -> Successors:
    """Successors of a concrete dense P[S, A, S']; K is the largest number of them in a row."""
    table = np.asarray(transition)
    width = max(1, int((table != 0).sum(axis=-1).max()))
    index = np.argsort(table == 0, axis=-1, kind="stable")[..., :width]
    probability = np.take_along_axis(table, index, axis=-1)
    return Successors(jnp.asarray(index, jnp.int32), jnp.asarray(probability))


def from_jax_sparse(transition: sparse.BCOO | sparse.BCSR) -> Successors:
    """Successors of a BCOO or BCSR matrix [S·A, S'] (row s·A + a) or a BCOO array [S, A, S'].

    Its values may be traced, so gradients flow back to `transition.data`; its indices may not,
    since K depends on them. Raises `InputError` for another shape or traced indices.
    """
    matrix = transition.to_bcoo() if isinstance(transition, sparse.BCSR) else transition
    shape = matrix.shape
    if matrix.n_batch or matrix.n_dense or len(shape) not in (2, 3):
        raise InputError(
            f"a sparse transition needs shape [S*A, S] or [S, A, S] without batch or dense "
            f"dimensions, but has shape {shape} with {matrix.n_batch} batch and "
            f"{matrix.n_dense} dense dimensions; "
            "reshape it or pass a dense array."
        )
    states = shape[-1]
    rows = int(np.prod(shape[:-1]))
    if rows % max(states, 1) or (len(shape) == 3 and shape[0] != states):
        raise InputError(
            f"a sparse transition of shape {shape} has no whole number of actions for "
            f"{states} states; use shape [S*A, S] with row s*A + a, or [S, A, S]."
        )
    if isinstance(matrix.indices, jax.core.Tracer):
        raise InputError(
            "the indices of a sparse transition are traced, and their number in each row must be "
            "known; build the MDP outside jit and vmap, or pass tabular.Successors."
        )
    where = np.asarray(matrix.indices)
    # padding of a BCOO array lies out of bounds
    kept = np.flatnonzero((where < np.asarray(shape)).all(axis=-1))
    row = np.ravel_multi_index(tuple(where[kept, :-1].T), shape[:-1])
    order = np.argsort(row, kind="stable")
    row, kept = row[order], kept[order]
    count = np.bincount(row, minlength=rows)
    rank = np.arange(row.size) - np.repeat(np.cumsum(count) - count, count)
    width = max(1, int(count.max(initial=0)))
    index = np.zeros((rows, width), np.int32)
    index[row, rank] = where[kept, -1]
    probability = jnp.zeros((rows, width), matrix.data.dtype)
    probability = probability.at[row, rank].set(matrix.data[kept])
    actions = rows // states
    return Successors(
        jnp.asarray(index.reshape(states, actions, width)),
        probability.reshape(states, actions, width),
    )
