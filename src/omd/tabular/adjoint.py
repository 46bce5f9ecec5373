"""Derivatives of a fixed point v = value(r + γPv) in everything that makes it, eq. (7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from omd import implicit
from omd.implicit.report import judge, relative
from omd.implicit.trees import norm
from omd.tabular.linear import resolvent
from omd.tabular.search import Problem


@eqx.filter_custom_jvp
def differentiable(
    problem: Problem,
    v: Float[Array, " S"],
    dense: bool,  # noqa: FBT001 (a rule of differentiation names its arguments by place)
    rtol: ArrayLike,
    on_report: Callable[[implicit.Report], None] | None,
) -> Float[Array, " S"]:
    """v, a fixed point found by other means, with its derivatives by the implicit function theorem.

    In forward and in reverse mode, to any order: dv = (I − γP^π)⁻¹ d(value(r + γPv)), where the
    right-hand side varies r, P, γ and the temperature at fixed v. Tied best actions of the hard
    operator share the derivative equally.
    """
    del problem, dense, rtol, on_report
    return v


@differentiable.def_jvp
def _differentiable_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    problem, v, dense, rtol, on_report = primals
    with jax.enable_x64(True):
        # itself, not v: where the derivative is differentiated again, v depends on the problem
        v = differentiable(problem, v, dense, rtol, on_report)
        moving, fixed = eqx.partition(
            problem, jax.tree.map(lambda t: t is not None, tangents[0], is_leaf=lambda t: t is None)
        )

        def image(moving):
            system = eqx.combine(moving, fixed)
            return system.value(system.lookahead(v))

        _, change = jax.jvp(image, (moving,), (eqx.filter(tangents[0], lambda t: t is not None),))
        slope = jax.grad(lambda q: problem.value(q).sum())(problem.lookahead(v))
        chain = problem._replace(policy=slope).chain(slope)
        dv, _ = resolvent(chain, change, dense=dense, rtol=rtol, on_report=on_report)
    return v, dv


class Sweeps(implicit.AbstractMethod):
    """u ← g + γP^πᵀ u until ‖(I − γP^π)ᵀ u − g‖ ≤ rtol ‖g‖, from a start with the right sum.

    Since every row of P^π sums to one, the sum of u must be that of g divided by 1 − γ, and every
    sweep keeps what is missing from it a factor γ alive. Starting with nothing missing leaves only
    the error that P^π mixes away: a few dozen sweeps where the chain mixes well, whatever γ; in
    the worst case errors still shrink like γ^k. Needs three vectors like g and no matrix.
    """

    discount: ArrayLike
    rtol: ArrayLike
    max_steps: int | Int[Array, ""] = 100_000

    def solve(self, vjp: Any, g: Any, *, check: bool = False) -> tuple[Any, implicit.Report]:
        goal = self.rtol * norm(g)

        def unfinished(carry):
            _, r, count = carry
            return (norm(r) > goal) & (count < self.max_steps)

        def advance(carry):
            u, r, count = carry
            u = u + r
            return u, g - vjp(u), count + 1

        u = g + self.discount / (1 - self.discount) * g.mean()
        u, r, count = jax.lax.while_loop(unfinished, advance, (u, g - vjp(u), jnp.int32(0)))
        size = relative(r, g)
        # the rounding of a quotient may not turn a solve that ended into one that failed
        tolerance = jnp.where(norm(r) <= goal, size, self.rtol)
        return u, judge(size, size, count, tolerance, implicit.Status.MAX_STEPS)


class OrNaN(implicit.AbstractMethod):
    """Another method, whose answer becomes NaN where its own residual says that it failed."""

    method: implicit.AbstractMethod

    def solve(self, vjp: Any, g: Any, *, check: bool = False) -> tuple[Any, implicit.Report]:
        u, report = self.method.solve(vjp, g, check=check)
        ok = report.status == implicit.Status.CONVERGED
        return jax.tree.map(lambda x: jnp.where(ok, x, jnp.nan), u), report
