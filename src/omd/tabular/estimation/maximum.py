"""Maximum likelihood of choices: the nested fixed point (NFXP), or constraints (MPEC)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from omd.errors import InputError
from omd.tabular.checks import check_count, real_array
from omd.tabular.estimation.likelihood import Model, log_policy_table, made, score_table
from omd.tabular.estimation.optimizers import Optimizer, SciPy, expansion
from omd.tabular.estimation.panel import Panel, check_panel
from omd.tabular.kernels import Numbers
from omd.tabular.operators import Scalar
from omd.tabular.search import Problem
from omd.tabular.solvers import check_temperature, solve, wide_problem

Errors = Literal["hessian", "bhhh", "sandwich"]
Route = Literal["nfxp", "mpec"]


class Estimate(NamedTuple):
    """Parameters with what the likelihood says of their precision."""

    theta: Float[np.ndarray, " K"]
    log_likelihood: float
    """Of all choices, at theta."""
    gradient: Float[np.ndarray, " K"]
    hessian: Float[np.ndarray, "K K"]
    """Of the log-likelihood, exact."""
    outer: Float[np.ndarray, "K K"]
    """Σ over observations of score · scoreᵀ (BHHH)."""
    iterations: int
    converged: bool
    message: str

    def covariance(self, kind: Errors = "sandwich") -> Float[np.ndarray, "K K"]:
        """Of theta: (−H)⁻¹, the inverse of the scores' outer product, or H⁻¹ (Σ s sᵀ) H⁻¹.

        Raises `InputError` for another kind, and where choices leave a parameter undetermined.
        """
        if kind == "bhhh":
            return _inverse(self.outer)
        inverse = _inverse(-self.hessian)
        if kind == "hessian":
            return inverse
        if kind != "sandwich":
            raise InputError(f"kind must be hessian, bhhh or sandwich, but is {kind!r}.")
        return inverse @ self.outer @ inverse

    def standard_errors(self, kind: Errors = "sandwich") -> Float[np.ndarray, " K"]:
        """Square roots of the diagonal of `covariance`."""
        return np.sqrt(np.diag(self.covariance(kind)))


class _Choices(NamedTuple):
    """What the loss of a theta is made of."""

    model: Model
    table: Float[Array, "S A"]
    """How often each action was taken in each state."""
    temperature: Scalar
    penalty: Float[ArrayLike, ""]
    size: Float[ArrayLike, ""]
    """Divides the loss."""


def _inverse(matrix: np.ndarray) -> np.ndarray:
    if not np.linalg.cond(matrix) < 1 / np.finfo(float).eps:
        raise InputError(
            "the curvature of the likelihood is singular: the choices leave some combination of "
            "the parameters undetermined; drop one of them, or add a penalty."
        )
    return np.linalg.inv(matrix)


def estimate(
    model: Model,
    panel: Panel,
    theta0: Numbers,
    *,
    temperature: Scalar = 1.0,
    route: Route = "nfxp",
    optimizer: Optimizer | None = None,
    weights: Numbers | None = None,
    penalty: Scalar = 0.0,
    max_iterations: int | None = None,
) -> Estimate:
    """θ that maximises Σ log π_θ(a|s) over a panel's choices, from theta0.

    "nfxp" solves the MDP for each θ and differentiates through the solution. "mpec" keeps the state
    values as variables beside θ under the constraint v = B_θ v (Su and Judd 2012). `optimizer` is
    who climbs:

    | | nfxp | mpec |
    |---|---|---|
    | `SciPy()`, the default | trust region, exact Hessian | SLSQP |
    | `Optax(transformation)` | its steps, L-BFGS by default | augmented Lagrangian |
    | `Optimistix(solver)` | a minimiser | a root finder on the KKT conditions |

    `weights` counts each agent's choices so many times; `penalty` subtracts penalty/2 · ‖θ‖².
    `max_iterations` is 200 with SciPy, 20 000 else where it is left out. In float64. What the
    optimiser says of itself is not believed: `converged` is whether the gradient vanishes at θ,
    where the MDP is solved again whatever the route.

    Raises `InputError` for a theta0 that is no vector, observations outside the MDP, weights that
    are not one finite number above or at 0 for each agent, and a model that returns no MDP at
    theta0 or at the end.
    """
    theta0 = real_array("theta0", theta0)
    if np.ndim(theta0) != 1 or not np.size(theta0):
        raise InputError(f"theta0 must be a vector, but has shape {np.shape(theta0)}.")
    if route not in ("nfxp", "mpec"):
        raise InputError(f"route must be nfxp or mpec, but is {route!r}; choose one.")
    if not (np.ndim(penalty) == 0 and 0 <= penalty < np.inf):
        raise InputError(f"penalty must be a finite number, 0 or above, but is {penalty}.")
    climber = SciPy() if optimizer is None else optimizer
    limit = climber.default_limit if max_iterations is None else max_iterations
    check_count("max_iterations", limit)
    with jax.enable_x64(True):
        start = jnp.asarray(theta0, jnp.float64)
        if not np.isfinite(start).all():
            raise InputError(f"theta0 must be finite, but is {np.asarray(start).tolist()}.")
        mdp = made(model, start)
        check_panel(panel, mdp)
        table = jnp.asarray(panel.table(mdp, weights))
        size = max(float(table.sum()), 1.0)
        alpha = check_temperature(temperature)
        one, none = jnp.asarray(1.0), jnp.asarray(0.0)
        choices = _Choices(model, table, alpha, one * penalty, one * size)
        if route == "nfxp":
            found = climber.free(_loss, start, choices, limit)
        else:
            values = jnp.asarray(solve(model(start), alpha).v)
            both = jnp.concatenate([start, values])
            found = climber.constrained(_loss_of_both, _violation, both, choices, limit)
        theta = np.asarray(found.x[: start.size])
        if np.isfinite(theta).all():
            made(model, jnp.asarray(theta))  # its rows are checked where theta is concrete
        # the same program as SciPy's steps
        whole = expansion(_loss, jnp.asarray(theta), choices._replace(penalty=none, size=one))
        value, slope, curvature = (-np.asarray(x) for x in whole)
        each = np.asarray(score_table(model, jnp.asarray(theta), alpha))
        outer = np.einsum("sa,sak,sal->kl", np.asarray(table), each, each)
        slope = slope - penalty * theta
        curvature = curvature - penalty * np.eye(theta.size)
        converged = bool(np.isfinite(value) and np.abs(slope).max() <= 1e-5 * size)
        return Estimate(
            theta, float(value), slope, curvature, outer, found.iterations, converged, found.message
        )


def _loss(theta: Float[Array, " K"], choices: _Choices) -> Float[Array, ""]:
    """Minus the penalised log-likelihood of an observation, with the MDP solved at theta."""
    log_policy = log_policy_table(choices.model, theta, choices.temperature)
    return _penalised(theta, log_policy, choices)


def _loss_of_both(x: Float[Array, " N"], choices: _Choices) -> Float[Array, ""]:
    """The same at (theta, v), whether v solves the MDP or not."""
    theta, problem, q = _split(x, choices)
    log_policy = (q - problem.value(q)[:, None]) / choices.temperature
    if problem.mask is not None:
        log_policy = jnp.where(problem.mask, log_policy, 0)
    return _penalised(theta, log_policy, choices)


def _violation(x: Float[Array, " N"], choices: _Choices) -> Float[Array, " S"]:
    """v − B_θ v."""
    theta, problem, q = _split(x, choices)
    return x[theta.size :] - problem.value(q)


def _penalised(theta: Array, log_policy: Array, choices: _Choices) -> Array:
    shrunk = jnp.asarray(choices.penalty) / 2 * (theta @ theta)
    return (shrunk - jnp.sum(choices.table * log_policy)) / choices.size


def _split(x: Array, choices: _Choices) -> tuple[Array, Problem, Array]:
    theta = x[: x.size - len(choices.table)]
    problem = wide_problem(choices.model(theta), choices.temperature)
    return theta, problem, problem.lookahead(x[theta.size :])
