"""Maximum likelihood of choices: the nested fixed point (NFXP), or constraints (MPEC)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from omd.errors import InputError
from omd.tabular.estimation.likelihood import Model, score_table, weighted_likelihood
from omd.tabular.estimation.panel import Panel
from omd.tabular.kernels import Numbers
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
        """Of theta: (−H)⁻¹, the inverse of the scores' outer product, or H⁻¹ (Σ s sᵀ) H⁻¹."""
        if kind == "bhhh":
            return np.linalg.inv(self.outer)
        inverse = np.linalg.inv(-self.hessian)
        if kind == "hessian":
            return inverse
        if kind != "sandwich":
            raise InputError(f"kind must be hessian, bhhh or sandwich, but is {kind!r}.")
        return inverse @ self.outer @ inverse

    def standard_errors(self, kind: Errors = "sandwich") -> Float[np.ndarray, " K"]:
        """Square roots of the diagonal of `covariance`."""
        return np.sqrt(np.diag(self.covariance(kind)))


def estimate(
    model: Model,
    panel: Panel,
    theta0: Numbers,
    *,
    temperature: float = 1.0,
    route: Route = "nfxp",
    weights: Numbers | None = None,
    penalty: float = 0.0,
    max_iterations: int = 200,
) -> Estimate:
    """θ that maximises Σ log π_θ(a|s) over a panel's choices, from theta0.

    "nfxp" solves the MDP for each θ, and takes trust-region steps with the exact gradient and
    Hessian (SciPy's trust-exact). "mpec" keeps the state values as variables beside θ under the
    constraint v = B_θ v (SciPy's SLSQP), with exact derivatives of both. `weights` counts each
    agent's choices so many times; `penalty` subtracts penalty/2 · ‖θ‖². In float64.

    Raises `InputError` for a theta0 that is no vector, observations outside the MDP, and a model
    that returns no MDP at theta0.
    """
    if np.ndim(theta0) != 1:
        raise InputError(f"theta0 must be a vector, but has shape {np.shape(theta0)}.")
    if route not in ("nfxp", "mpec"):
        raise InputError(f"route must be nfxp or mpec, but is {route!r}; choose one.")
    with jax.enable_x64(True):
        start = jnp.asarray(theta0, jnp.float64)
        mdp = model(start)
        panel.check(mdp)
        counts = panel.counts(mdp)
        if weights is not None:
            counts = counts * np.asarray(weights, float)[:, None, None]
        table = jnp.asarray(counts.sum(axis=0))
        size = max(float(table.sum()), 1.0)

        def parts(theta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
            found = weighted_likelihood(model, jnp.asarray(theta), table, temperature)
            value, slope, curvature = (np.asarray(x) for x in found)
            return float(value), slope, curvature

        if route == "nfxp":
            found = _nested(parts, np.asarray(start), size, penalty, max_iterations)
        else:
            found = _constrained(model, start, table, size, temperature, penalty, max_iterations)
        theta = np.asarray(found.x[: start.size])
        value, slope, curvature = parts(theta)
        each = np.asarray(score_table(model, jnp.asarray(theta), temperature))
        outer = np.einsum("sa,sak,sal->kl", np.asarray(table), each, each)
        slope = slope - penalty * theta
        curvature = curvature - penalty * np.eye(theta.size)
        converged = bool(np.isfinite(value) and np.abs(slope).max() <= 1e-5 * size)
        return Estimate(
            theta, value, slope, curvature, outer, int(found.nit), converged, str(found.message)
        )


def _nested(parts: Callable[..., Any], start, size, penalty, max_iterations) -> Any:
    seen: dict[bytes, Any] = {}

    def at(theta: np.ndarray) -> Any:
        key = theta.tobytes()
        if key not in seen:
            seen.clear()
            value, slope, curvature = parts(theta)
            seen[key] = (
                (penalty / 2 * theta @ theta - value) / size,
                (penalty * theta - slope) / size,
                (penalty * np.eye(theta.size) - curvature) / size,
            )
        return seen[key]

    return minimize(
        lambda x: at(x)[0], start, jac=lambda x: at(x)[1], hess=lambda x: at(x)[2],
        method="trust-exact", options={"gtol": 1e-9, "maxiter": max_iterations},
    )  # fmt: skip


def _constrained(model, start, table, size, temperature, penalty, max_iterations) -> Any:
    alpha = check_temperature(temperature)
    count = start.size

    def split(x):
        problem = wide_problem(model(x[:count]), alpha)
        return problem, problem.lookahead(x[count:])

    @jax.jit
    def loss(x):
        problem, q = split(x)
        log_policy = (q - problem.value(q)[:, None]) / alpha
        if problem.mask is not None:
            log_policy = jnp.where(problem.mask, log_policy, 0)
        return (penalty / 2 * x[:count] @ x[:count] - (table * log_policy).sum()) / size

    @jax.jit
    def violation(x):
        problem, q = split(x)
        return x[count:] - problem.value(q)

    x0 = np.concatenate([np.asarray(start), np.asarray(solve(model(start), temperature).v)])
    gradient, jacobian = jax.jit(jax.grad(loss)), jax.jit(jax.jacfwd(violation))
    return minimize(
        lambda x: float(loss(x)), x0, jac=lambda x: np.asarray(gradient(x)), method="SLSQP",
        constraints={"type": "eq", "fun": lambda x: np.asarray(violation(x)),
                     "jac": lambda x: np.asarray(jacobian(x))},
        options={"maxiter": max_iterations, "ftol": 1e-14},
    )  # fmt: skip
