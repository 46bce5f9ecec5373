"""Krylov solvers for (∂h/∂w)ᵀ u = g, by lineax, each checked by a product of our own."""

from __future__ import annotations

from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import ArrayLike, PyTree

from omd.implicit import validation
from omd.implicit.methods import AbstractMethod, machine_epsilon
from omd.implicit.report import Report, Status, judge, relative, residuals
from omd.implicit.trees import Product, axpy, in_one_precision, norm, scale, subtract

# lineax tests for breakdown and for convergence of u in absolute terms: its CG gives up with NaN
# where a Rayleigh quotient is below 200·eps·n (0.07 for 3 000 weights in float32). Solving for
# u / _SCALE takes both tests out of the way; being a power of two, it rounds nothing.
_SCALE = 2.0**30


class CG(AbstractMethod):
    """Conjugate gradient on ∂h/∂w + damping · I, which must be symmetric positive definite.

    On any other Jacobian the answer is wrong, and the report says so. Stops at a relative
    residual of rtol or after max_steps products.
    """

    solves = frozenset({"symmetric"})

    damping: ArrayLike = 0.0
    rtol: ArrayLike = 1e-5
    max_steps: int = eqx.field(static=True, default=100)

    def __check_init__(self) -> None:
        _check_settings(self.damping, self.rtol, "max_steps", self.max_steps)

    @property
    def products(self) -> int:
        return self.max_steps

    @classmethod
    def precise(cls, size: int, step: float) -> Self:
        return cls(rtol=machine_epsilon() ** 0.75, max_steps=10 * size)

    def solve(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        vjp, g, back = in_one_precision(vjp, g)
        u, steps = _conjugate_gradient(
            lambda v: axpy(self.damping, v, vjp(v)), g, self.rtol, self.max_steps
        )
        failure = _failure(steps, self.max_steps)
        return back(u), judge(*residuals(vjp, u, g, self.damping), steps, self.rtol, failure)


class NormalCG(AbstractMethod):
    """Conjugate gradient on (A Aᵀ + damping · I) u = A g with A = ∂h/∂w: any square Jacobian.

    Two products an iteration, and the condition number is squared. On a singular Jacobian it
    tends to the least-squares solution of minimum norm. Status and rtol are about this equation.
    """

    solves = frozenset({"symmetric", "general", "singular"})

    damping: ArrayLike = 0.0
    rtol: ArrayLike = 1e-5
    max_steps: int = eqx.field(static=True, default=200)

    def __check_init__(self) -> None:
        _check_settings(self.damping, self.rtol, "max_steps", self.max_steps)

    @property
    def products(self) -> int:
        return self.max_steps

    @classmethod
    def precise(cls, size: int, step: float) -> Self:
        return cls(rtol=machine_epsilon() ** 0.75, max_steps=40 * size)

    def solve(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        vjp, g, back = in_one_precision(vjp, g)
        transpose = jax.linear_transpose(vjp, g)

        def jvp(v):
            return transpose(v)[0]

        right = jvp(g)
        u, steps = _conjugate_gradient(
            lambda v: axpy(self.damping, v, jvp(vjp(v))), right, self.rtol, self.max_steps
        )
        r = subtract(vjp(u), g)
        normal = relative(axpy(self.damping, u, jvp(r)), right)
        failure = _failure(steps, self.max_steps)
        return back(u), judge(relative(r, g), normal, steps, self.rtol, failure)


class GMRES(AbstractMethod):
    """Restarted GMRES on ∂h/∂w + damping · I: any square Jacobian, such as I − γP.

    Keeps `restart` vectors; stops at a relative residual of rtol or after max_restarts cycles of
    `restart` products each.
    """

    solves = frozenset({"symmetric", "general"})

    damping: ArrayLike = 0.0
    rtol: ArrayLike = 1e-5
    restart: int = eqx.field(static=True, default=20)
    max_restarts: int = eqx.field(static=True, default=20)

    def __check_init__(self) -> None:
        _check_settings(self.damping, self.rtol, "max_restarts", self.max_restarts)
        validation.count("restart", self.restart)

    @property
    def products(self) -> int:
        return self.restart * self.max_restarts

    @classmethod
    def precise(cls, size: int, step: float) -> Self:
        return cls(rtol=machine_epsilon() ** 0.75, restart=size)

    def solve(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        vjp, g, back = in_one_precision(vjp, g)
        # lineax spends its first step on computing the residual of the starting point
        solver = lx.GMRES(
            rtol=0.0,
            atol=_aim(self.rtol),
            norm=norm,
            max_steps=self.max_restarts + 1,
            restart=self.restart,
        )
        u, steps = _scaled_solve(lambda v: axpy(self.damping, v, vjp(v)), g, solver)
        failure = _failure(steps - 1, self.max_restarts)
        return back(u), judge(*residuals(vjp, u, g, self.damping), steps - 1, self.rtol, failure)


def _check_settings(damping: ArrayLike, rtol: ArrayLike, name: str, steps: int) -> None:
    validation.number("damping", damping)
    validation.number("rtol", rtol, positive=True, below=1.0)
    validation.count(name, steps)


def _failure(steps: ArrayLike, max_steps: int) -> Any:
    return jnp.where(jnp.asarray(steps) >= max_steps, Status.MAX_STEPS, Status.STAGNATED)


def _aim(rtol: ArrayLike) -> Any:
    """Half the tolerance, so that the check afterwards is not lost to rounding."""
    return rtol / 2


def _conjugate_gradient(operator: Product, right: PyTree, rtol: ArrayLike, max_steps: int):
    solver = lx.CG(rtol=0.0, atol=_aim(rtol), norm=norm, max_steps=max_steps)
    return _scaled_solve(operator, right, solver, lx.positive_semidefinite_tag)


def _scaled_solve(
    operator: Product,
    right: PyTree,
    solver: lx.AbstractLinearSolver,
    tags: object = (),
) -> tuple[PyTree, Any]:
    """(u, steps) with operator(u) ≈ right; the right-hand side is brought to length one first."""
    length = norm(right)
    length = jnp.where(length > 0, length, 1)
    linear = lx.FunctionLinearOperator(
        lambda v: scale(_SCALE, operator(v)), jax.eval_shape(lambda: right), tags
    )
    solution = lx.linear_solve(linear, scale(1 / length, right), solver, throw=False)
    return scale(_SCALE * length, solution.value), solution.stats["num_steps"]
