"""Solvers that form the matrix (∂h/∂w)ᵀ [n, n], by n products: small w only, and as a reference."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import jax.scipy as jsp
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float, PyTree

from omd.implicit.methods import AbstractMethod
from omd.implicit.report import Report, Status, judge, relative
from omd.implicit.trees import Product, dense_matrix, in_one_precision
from omd.parts import setting


class Dense(AbstractMethod):
    """LU factorisation of (∂h/∂w)ᵀ + damping · I. `rtol` defaults to √eps of the dtype."""

    solves = frozenset({"symmetric", "general"})

    damping: ArrayLike = setting(0.0, "multiple of the identity added to the Jacobian", low=0)
    rtol: ArrayLike | None = setting(
        None, "relative residual above which it fails", low=0, high=1, open_high=True
    )

    def solve(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        vjp, g, back = in_one_precision(vjp, g)
        matrix, right, unravel = dense_matrix(vjp, g)
        damping = jnp.asarray(self.damping, matrix.dtype)
        damped = matrix + damping * jnp.eye(len(matrix), dtype=matrix.dtype)
        u = jsp.linalg.lu_solve(jsp.linalg.lu_factor(damped), right)
        r = matrix @ u - right
        report = judge(
            relative(r, right),
            relative(r + damping * u, right),
            0,
            _tolerance(self.rtol, right.dtype),
            Status.SINGULAR,
        )
        return back(unravel(u)), report


class PseudoInverse(AbstractMethod):
    """The least-squares solution of minimum norm, by singular values (appendix E).

    Singular values below rcond · (the largest) count as zero; rcond defaults to 2 · eps · n.
    The status is about (∂h/∂w)ᵀ u being the projection of g, which is all that can be asked;
    `residual` says how much of g lies outside the range.
    """

    solves = frozenset({"symmetric", "general", "singular"})

    rcond: ArrayLike | None = setting(
        None,
        "singular values below this part of the largest are zero",
        low=0,
        high=1,
        open_high=True,
    )

    def solve(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        vjp, g, back = in_one_precision(vjp, g)
        matrix, right, unravel = dense_matrix(vjp, g)
        eps = jnp.finfo(matrix.dtype).eps
        rcond: Any = 2 * eps * len(matrix) if self.rcond is None else self.rcond
        u, *_ = jnp.linalg.lstsq(matrix, right, rcond=rcond)
        r = matrix @ u - right
        normal = jnp.linalg.norm(matrix.T @ r) / _at_least_tiny(
            jnp.linalg.norm(matrix) * jnp.linalg.norm(right)
        )
        tolerance = _tolerance(self.rcond, right.dtype)
        return back(unravel(u)), judge(relative(r, right), normal, 0, tolerance, Status.SINGULAR)


def _tolerance(value: ArrayLike | None, dtype: DTypeLike) -> ArrayLike:
    smallest = jnp.sqrt(jnp.finfo(dtype).eps)
    return smallest if value is None else jnp.maximum(value, smallest)


def _at_least_tiny(x: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.maximum(x, jnp.finfo(x.dtype).tiny)
