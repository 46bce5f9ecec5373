"""Linear systems of a discounted chain W = γP^π: (I − W) x = b, and the transposed one, eq. (7).

Each is solved by a factorisation where the chain is a small dense matrix, else by sweeps, and where
the chain mixes too slowly for them by BiCGStab or a sparse factorisation. All have derivatives in
forward and reverse mode, to any order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import lu_factor, lu_solve
from jax.scipy.sparse.linalg import bicgstab
from jaxtyping import Array, ArrayLike, Float, Int

from omd.implicit import Report, Status
from omd.implicit.report import judge, relative
from omd.implicit.trees import norm
from omd.tabular.elimination import UNROLLED, eliminate
from omd.tabular.factorised import MAX_STATES, factorised_solve
from omd.tabular.kernels import Kernel

KRYLOV_STEPS = 1000
"""Steps of BiCGStab, of two products each, before its answer is used as it stands."""

FEW_STEPS = 50
"""The same where a sparse factorisation can take over."""

AT_ONCE = 1000
"""Up to this many states a sparse factorisation is cheap, whatever it fills in."""

CHUNK = 64
"""Sweeps between two looks at how fast they are."""

SLOW = 0.03
"""A chunk of sweeps that leaves more than this share of the residual asks for `corrected`."""

MAX_PRODUCTS = 200_000
"""Sweeps, a correction counting as two, before a solve gives up."""

Product = Callable[[Float[Array, " S"]], Float[Array, " S"]]


class Chain(NamedTuple):
    """W = Σ_a weights(s, a) p(s'|s, a), where the weights hold the policy and the discount."""

    kernel: Kernel
    """One action: the rows of W."""
    discount: Float[ArrayLike, ""] | None
    """γ, where every row of W sums to it."""

    def forward(self, x: Float[Array, " S"]) -> Float[Array, " S"]:
        """W x, for loops that nobody differentiates."""
        return self.kernel.swept(x)[:, 0]

    def backward(self, x: Float[Array, " S"]) -> Float[Array, " S"]:
        """Wᵀ x."""
        return self.kernel.flowed(x[:, None])

    def system(self, x: Float[Array, " S"]) -> Float[Array, " S"]:
        """(I − W) x, differentiable in x and in W."""
        return x - self.kernel.expected(x)[:, 0]

    def matrix(self) -> Float[Array, "S S"]:
        """I − W, dense."""
        size = self.kernel.shape[0]
        dtype = jax.tree.leaves(self.kernel)[-1].dtype
        return jnp.eye(size, dtype=dtype) - self.kernel.chain(jnp.ones((size, 1), dtype))


def resolvent(
    chain: Chain,
    right: Float[Array, " S"],
    *,
    dense: bool,
    rtol: ArrayLike = 1e-11,
    max_products: ArrayLike = MAX_PRODUCTS,
    on_report: Callable[[Report], None] | None = None,
) -> tuple[Float[Array, " S"], Int[Array, ""]]:
    """(x with (I − W) x = right, products made), with derivatives in W and the right-hand side.

    Dense systems are factorised. Others stop at ‖(I − W) x − right‖ ≤ rtol ‖right‖, or at what
    rounding allows, or after so many products. NaN where that was missed. `on_report` hears of
    every solve with the transposed system.
    """
    fixed = jax.lax.stop_gradient(chain)
    forward, backward = _factorised(fixed) if dense else _matrix_free(fixed, rtol, max_products)

    def transposed(_, g):
        u, count, report = backward(g)
        if on_report is not None:
            jax.debug.callback(on_report, report)
        return u, count

    def solve(_, b):
        x, count, _ = forward(b)
        return x, count

    return jax.lax.custom_linear_solve(chain.system, right, solve, transposed, has_aux=True)


def corrected(
    chain: Chain, right: Float[Array, " S"], *, transposed: bool = False
) -> Float[Array, " S"]:
    """About (I − W)⁻¹ right, or (I − W)⁻ᵀ right, to a hundredth or better; no derivative.

    By BiCGStab, and where it takes many steps by a sparse factorisation, if the chain has lists of
    successors and not too many states.
    """
    product = chain.backward if transposed else chain.forward
    lists = None
    if right.size <= MAX_STATES:
        lists = chain.kernel.mixed_lists(jnp.ones((right.size, 1), right.dtype))

    def krylov(steps):
        x, _ = bicgstab(lambda x: x - product(x), right, tol=1e-2, atol=0.0, maxiter=steps)
        return x

    if lists is None:
        return krylov(KRYLOV_STEPS)
    if right.size <= AT_ONCE:
        return factorised_solve(*lists, right, transposed=transposed)
    x = krylov(FEW_STEPS)
    met = norm(right - x + product(x)) <= 1e-2 * norm(right)
    return jax.lax.cond(
        met, lambda: x, lambda: factorised_solve(*lists, right, transposed=transposed)
    )


def _factorised(chain: Chain) -> tuple[Callable[..., Any], Callable[..., Any]]:
    matrix = chain.matrix()
    if len(matrix) <= UNROLLED:
        inverse = jax.vmap(eliminate, (None, 1), 1)(matrix, jnp.eye(len(matrix)))
        ways: tuple[Product, Product] = (lambda b: inverse @ b), (lambda b: inverse.T @ b)
    else:
        factors = lu_factor(matrix)
        ways = (lambda b: lu_solve(factors, b)), (lambda b: lu_solve(factors, b, trans=1))

    def solver(way: Product, system: Product) -> Callable[..., Any]:
        def solve(b):
            x = way(b)
            # one refinement: what is left is the rounding of each row by itself
            x = x + way(b - system(x))
            missing = relative(b - system(x), b)
            report = judge(missing, missing, 0, _LOOSE, Status.SINGULAR)
            return _or_nan(x, report), jnp.int32(0), report

        return solve

    return solver(ways[0], lambda x: matrix @ x), solver(ways[1], lambda x: matrix.T @ x)


_LOOSE = 1e-6
"""Relative residual above which an answer is no answer."""


def _matrix_free(
    chain: Chain, rtol: ArrayLike, max_products: ArrayLike
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    gain = 0.0 if chain.discount is None else chain.discount / (1 - chain.discount)

    # (I − W) 1 = (1 − γ) 1, so half-way between the extremes of r is what a constant mends; a
    # transposed solve must have the sum Σg / (1 − γ), and sweeps keep what was missing at first
    def level(r):
        return gain * (r.min() + r.max()) / 2

    def total(r):
        return gain * r.mean()

    def solver(constant: Product, *, transposed: bool) -> Callable[..., Any]:
        product = chain.backward if transposed else chain.forward

        def leap(r: Array) -> Array:
            return corrected(chain, r, transposed=transposed)

        return lambda b: _iterated(product, constant, leap, b, rtol, max_products)

    return solver(level, transposed=False), solver(total, transposed=True)


def _iterated(
    product: Product,
    constant: Product,
    correction: Product,
    b: Array,
    rtol: ArrayLike,
    max_products: ArrayLike,
) -> tuple[Array, Array, Report]:
    eps = jnp.finfo(b.dtype).eps
    tiny = jnp.finfo(b.dtype).tiny

    def residual(x):
        return b - x + product(x)

    def goal(x):
        return jnp.maximum(rtol * norm(b), 4 * eps * norm(x))

    def unfinished(carry):
        x, r, count, _ = carry
        return (norm(r) > goal(x)) & (count < max_products)

    def sweeping(carry):
        _, r, count, (end, aim) = carry
        return (norm(r) > aim) & (count < end)

    def sweep(carry):
        x, r, count, end = carry
        x = x + r + constant(r)
        return x, residual(x), count + 1, end

    def round_of_both(carry):
        x, r, count, _ = carry
        before = norm(r)
        end = jnp.minimum(count + CHUNK, max_products)
        x, r, count, _ = jax.lax.while_loop(sweeping, sweep, (x, r, count, (end, goal(x))))

        def leap():
            step = correction(r)
            there = x + jnp.where(jnp.isfinite(step).all(), step, 0)
            missing = residual(there)
            better = norm(missing) < norm(r)
            return jnp.where(better, there, x), jnp.where(better, missing, r), count + 2

        slow = (norm(r) > goal(x)) & (norm(r) > SLOW * before) & (count < max_products)
        x, r, count = jax.lax.cond(slow, leap, lambda: (x, r, count))
        return x, r, count, end

    start = b + constant(b)
    carry = (start, residual(start), jnp.int32(1), jnp.int32(0))
    x, r, count, _ = jax.lax.while_loop(unfinished, round_of_both, carry)
    met = norm(r) <= goal(x)
    size = norm(r) / jnp.maximum(norm(b), tiny)
    # the rounding of a quotient may not turn a solve that ended into one that failed
    report = judge(size, size, count, jnp.where(met, size, rtol), Status.MAX_STEPS)
    return _or_nan(x, report), count, report


def _or_nan(x: Array, report: Report) -> Array:
    return jnp.where(report.status == Status.CONVERGED, x, jnp.nan)
