"""Unobserved types: each agent is of one of several, with parameters of its own (EM)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from omd.errors import InputError
from omd.tabular.checks import check_count, real_array
from omd.tabular.estimation.likelihood import Model, log_policy, made
from omd.tabular.estimation.maximum import Estimate, estimate
from omd.tabular.estimation.panel import Panel, check_panel
from omd.tabular.kernels import Numbers
from omd.tabular.operators import Scalar


class Mixture(NamedTuple):
    """What EM ended with."""

    types: tuple[Estimate, ...]
    """Parameters of each type; their precision takes the shares as known."""
    shares: Float[np.ndarray, " M"]
    posterior: Float[np.ndarray, "N M"]
    """How likely each agent is of each type."""
    log_likelihood: float
    iterations: int
    converged: bool


def estimate_mixture(
    model: Model,
    panel: Panel,
    theta0: Numbers,
    *,
    temperature: Scalar = 1.0,
    tolerance: Scalar = 1e-8,
    max_iterations: int = 500,
) -> Mixture:
    """Parameters [M, K] and shares of M types of agents by expectation and maximisation.

    Starts from theta0, whose rows must differ, and equal shares. The likelihood rises with every
    iteration; it has converged where it rises by less than tolerance of itself. Raises
    `InputError` as `estimate` does, and for equal rows.
    """
    rows = np.array(real_array("theta0", theta0), float)
    check_count("max_iterations", max_iterations)
    if not 0 < float(tolerance) < np.inf:
        raise InputError(f"tolerance must be a finite number above 0, but is {tolerance}.")
    if rows.ndim != 2 or len(rows) < 2 or len(np.unique(rows, axis=0)) < len(rows):
        raise InputError(
            f"theta0 must be [M, K] with at least two rows that differ, but is {rows.tolist()}; "
            "equal types stay equal."
        )
    shares = np.full(len(rows), 1 / len(rows))
    with jax.enable_x64(True):
        mdp = made(model, jnp.asarray(rows[0]))
    check_panel(panel, mdp)
    before, converged, count = -np.inf, False, 0
    types: list[Estimate] = []
    for count in range(1, max_iterations + 1):  # noqa: B007
        joint = np.log(shares) + _by_agent(model, rows, panel, temperature)
        total = logsumexp(joint, axis=1, keepdims=True)
        posterior = np.exp(joint - total)
        value = float(total.sum())
        converged = bool(value - before <= tolerance * abs(value))
        if converged and types:
            break
        before = value
        shares = posterior.mean(axis=0)
        types = [
            estimate(model, panel, row, temperature=temperature, weights=posterior[:, m])
            for m, row in enumerate(rows)
        ]
        rows = np.stack([found.theta for found in types])
    return Mixture(tuple(types), shares, posterior, value, count, converged)


def _by_agent(model: Model, rows: np.ndarray, panel: Panel, temperature: Scalar) -> np.ndarray:
    """log-likelihood of each agent's choices under each type, [N, M]."""
    with jax.enable_x64(True):
        tables = [np.asarray(log_policy(model, jnp.asarray(row), temperature)) for row in rows]
    return np.stack([table[panel.state, panel.action].sum(axis=1) for table in tables], axis=1)
