"""Gaussian elimination written out, for systems of a few unknowns in thousands of lanes.

LAPACK is slow there (docs/performance.md).
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from omd.implicit import AbstractMethod, Report, Status
from omd.implicit.report import judge, relative
from omd.implicit.trees import Product, dense_matrix

UNROLLED = 4
"""Up to this many unknowns, elimination written out is the better choice."""


def eliminate(matrix: Float[Array, "n n"], right: Float[Array, " n"]) -> Float[Array, " n"]:
    """x with matrix @ x = right, by Gauss–Jordan elimination without pivoting, n steps unrolled.

    Stable where the matrix is diagonally dominant by rows or columns, as I − γP^π and its
    transpose are, or symmetric positive definite.
    """
    size = len(right)
    rows = jnp.concatenate([matrix, right[:, None]], axis=1)
    for i in range(size):
        pivot = rows[i] / rows[i, i]
        others = rows - rows[:, i, None] * pivot
        rows = jnp.where((jnp.arange(size) == i)[:, None], pivot, others)
    return rows[:, size]


class Elimination(AbstractMethod):
    """`implicit.Dense` for a handful of unknowns: the same answer, by `eliminate`.

    Asks the Jacobian to be diagonally dominant or positive definite, as those of the tabular
    constraints are.
    """

    rtol: float = 1e-8

    def solve(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        matrix, right, unravel = dense_matrix(vjp, g)
        u = eliminate(matrix, right)
        residual = relative(matrix @ u - right, right)
        return unravel(u), judge(residual, residual, 0, self.rtol, Status.SINGULAR)
