"""Gaussian elimination written out, for systems of a few unknowns in thousands of lanes.

Batched LAPACK calls cost hundreds of nanoseconds a system, sixty times the arithmetic of a 2×2
one; unrolled, the lanes are what is vectorised.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from omd.implicit import AbstractMethod, Report, Status
from omd.implicit.report import judge, relative
from omd.implicit.trees import Vjp, dense_matrix

UNROLLED = 4
"""Up to this many unknowns, elimination written out is the better choice."""


def eliminate(matrix: Float[Array, "n n"], right: Float[Array, " n"]) -> Float[Array, " n"]:
    """x with matrix @ x = right, by elimination without pivoting; n³/3 operations are unrolled.

    Stable where the matrix is diagonally dominant by rows or columns, as I − γP^π and its
    transpose are, or symmetric positive definite.
    """
    size = len(right)
    rows = [[*(matrix[i, j] for j in range(size)), right[i]] for i in range(size)]
    for i in range(size):
        for k in range(i + 1, size):
            factor = rows[k][i] / rows[i][i]
            for j in range(i + 1, size + 1):
                rows[k][j] = rows[k][j] - factor * rows[i][j]
    x: list[Array] = []
    for i in reversed(range(size)):
        known = sum(rows[i][j] * x_j for j, x_j in zip(range(size - 1, i, -1), x, strict=True))
        x.append((rows[i][size] - known) / rows[i][i])
    return jnp.stack(x[::-1])


class Elimination(AbstractMethod):
    """`implicit.Dense` for a handful of unknowns: the same answer, by `eliminate`.

    Asks the Jacobian to be diagonally dominant or positive definite, as those of the tabular
    constraints are.
    """

    rtol: float = 1e-8

    def solve(self, vjp: Vjp, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        matrix, right, unravel = dense_matrix(vjp, g)
        u = eliminate(matrix, right)
        residual = relative(matrix @ u - right, right)
        return unravel(u), judge(residual, residual, 0, self.rtol, Status.SINGULAR)
