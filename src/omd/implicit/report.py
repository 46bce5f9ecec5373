"""What a solve of (∂h/∂w)ᵀ u = g says of itself. Only a residual that was computed counts."""

from __future__ import annotations

import enum
from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from omd.implicit.trees import Product, axpy, norm, subtract


class Status(enum.IntEnum):
    """How a solve ended; `Status(int(report.status)).sentence` says it in words."""

    CONVERGED = 0
    MAX_STEPS = 1
    STAGNATED = 2
    SINGULAR = 3
    NON_FINITE = 4
    NOT_CHECKED = 5
    MEASURED = 6

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    Status.CONVERGED: "The residual, computed afresh from the answer, is within the tolerance.",
    Status.MAX_STEPS: "The solver used all its steps and the residual is above the tolerance: "
    "allow more steps, add damping, or take a method that suits the Jacobian.",
    Status.STAGNATED: "The solver stopped by itself, but the residual is above the tolerance: the "
    "Jacobian is not of the kind the method needs, or the tolerance is beyond this precision.",
    Status.SINGULAR: "A direct solve left a residual above the tolerance: the Jacobian is "
    "singular or nearly so, and no exact solution exists in this precision.",
    Status.NON_FINITE: "The answer or its residual is not finite.",
    Status.NOT_CHECKED: "An approximation whose residual was not computed (check=True does).",
    Status.MEASURED: "An approximation: its residual was computed, but held against no tolerance.",
}


class Report(NamedTuple):
    """Leaves are arrays, so a report can be vmapped, stacked (an axis more) and logged."""

    residual: Float[Array, " ..."]
    """‖(∂h/∂w)ᵀ u − g‖ / ‖g‖, undamped: how far u is from what eq. (7) asks. NaN if unchecked."""
    solve_residual: Float[Array, " ..."]
    """The same for the equation the method set out to solve, its damping included.

    For `NormalCG` and `PseudoInverse` that is the (damped) normal equation of least squares.
    The status is about this number.
    """
    iterations: Int[Array, " ..."]
    """As the method counts them: products for `CG`, restart cycles for `GMRES`, 0 if direct."""
    status: Int[Array, " ..."]
    """A `Status`, as int32."""
    solution: PyTree = None
    """u itself where the caller gave a first guess of it (`adjoint_init`): the next one."""

    @property
    def failed(self) -> Bool[Array, " ..."]:
        """Whether a method that has a tolerance missed it, or the answer isn't finite."""
        claims_nothing = (self.status == Status.NOT_CHECKED) | (self.status == Status.MEASURED)
        return (self.status != Status.CONVERGED) & ~claims_nothing

    def describe(self) -> str:
        """One line; for concrete, unbatched reports."""
        status = Status(int(self.status))
        return (
            f"{status.name.lower()}: residual {float(self.residual):.2e} after "
            f"{int(self.iterations)} iterations. {status.sentence}"
        )


def relative(r: PyTree, g: PyTree) -> Float[Array, ""]:
    """‖r‖ / ‖g‖; where g = 0: 0 if r = 0, else infinite."""
    top, bottom = norm(r), norm(g)
    ratio = top / jnp.where(bottom > 0, bottom, 1)
    return jnp.where(bottom == 0, jnp.where(top == 0, 0.0, jnp.inf), ratio)


def residuals(
    vjp: Product, u: PyTree, g: PyTree, damping: ArrayLike = 0.0
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Relative residuals of (∂h/∂w)ᵀ u = g and of the damped equation, by one product."""
    r = subtract(vjp(u), g)
    return relative(r, g), relative(axpy(damping, u, r), g)


def judge(
    residual: ArrayLike,
    solve_residual: ArrayLike,
    iterations: ArrayLike,
    tolerance: ArrayLike,
    otherwise: ArrayLike,
) -> Report:
    """The report of a method that has a tolerance; `otherwise` is its status when it missed it."""
    status = jnp.where(jnp.asarray(solve_residual) <= tolerance, Status.CONVERGED, otherwise)
    status = jnp.where(jnp.isfinite(solve_residual), status, Status.NON_FINITE)
    return _report(residual, solve_residual, iterations, status)


def of_approximation(
    vjp: Product, u: PyTree, g: PyTree, iterations: int, damping: ArrayLike = 0.0, *, check: bool
) -> Report:
    """The report of a method without a tolerance; costs one product where `check`, else none."""
    if not check:
        return unchecked(iterations, norm(g).dtype)
    residual, solve_residual = residuals(vjp, u, g, damping)
    status = jnp.where(jnp.isfinite(solve_residual), Status.MEASURED, Status.NON_FINITE)
    return _report(residual, solve_residual, iterations, status)


def unchecked(iterations: int, dtype: DTypeLike) -> Report:
    """The report of a method whose residual nobody computed."""
    unknown = jnp.asarray(jnp.nan, dtype)
    return _report(unknown, unknown, iterations, Status.NOT_CHECKED)


def _report(
    residual: ArrayLike, solve_residual: ArrayLike, iterations: ArrayLike, status: ArrayLike
) -> Report:
    return Report(
        jnp.asarray(residual),
        jnp.asarray(solve_residual),
        jnp.asarray(iterations, jnp.int32),
        jnp.asarray(status, jnp.int32),
    )
