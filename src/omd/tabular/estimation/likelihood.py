"""The likelihood of choices under a soft-optimal policy, and its derivatives by observation.

With extreme-value shocks of scale α the choice probabilities of a dynamic discrete choice model are
the soft-optimal policy at temperature α (Rust 1987), eq. (3) of the paper.
"""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from omd.errors import InputError
from omd.tabular.estimation.panel import Panel, check_panel
from omd.tabular.kernels import Numbers, as_kernel
from omd.tabular.mdp import MDP
from omd.tabular.operators import Scalar
from omd.tabular.solvers import check_temperature, solve, widened

Model = Callable[[PyTree], MDP]
"""theta -> MDP, such as `Parametrised`."""


def made(model: Model, theta: PyTree) -> MDP:
    """model(theta); `InputError` where that is no MDP."""
    mdp = model(theta) if callable(model) else None
    if not isinstance(mdp, MDP):
        raise InputError(
            "the model must be a function of theta that returns a tabular.MDP, but it is a "
            f"{type(model).__name__} and gives {type(mdp).__name__}; use tabular.Parametrised."
        )
    return mdp


def log_policy(model: Model, theta: PyTree, temperature: ArrayLike = 1.0) -> Float[Array, "S A"]:
    """log π_θ(a|s) of the soft-optimal policy; −∞ for actions that are not available.

    From action values in float64, whatever the precision of the MDP: near γ = 1 their differences
    are lost in float32. Uniform where an undiscounted problem has ended.
    """
    return log_policy_of(made(model, theta), temperature)


def log_policy_of(mdp: MDP, temperature: ArrayLike = 1.0) -> Float[Array, "S A"]:
    """`log_policy` of an MDP."""
    with jax.enable_x64(True):
        return _log_policy(mdp, check_temperature(temperature))


@eqx.filter_jit
def _log_policy(mdp: MDP, temperature: Scalar) -> Float[Array, "S A"]:
    solution = solve(widened(mdp), temperature)
    found = (solution.q - solution.v[:, None]) / temperature
    if mdp.ends is not None:
        available = jnp.isfinite(found)
        count = available.sum(axis=-1, keepdims=True)
        found = jnp.where(mdp.ends[:, None] & available, -jnp.log(count), found)
    return found.astype(mdp.reward.dtype)


def log_likelihood(
    model: Model,
    theta: PyTree,
    panel: Panel,
    temperature: ArrayLike = 1.0,
    *,
    transitions: bool = False,
) -> Float[Array, "N T"]:
    """log π_θ(a|s) of every observation, plus log p_θ(s'|s, a) with `transitions`.

    Differentiable in θ in both modes. Raises `InputError` for observations outside the MDP.
    """
    mdp = made(model, theta)
    check_panel(panel, mdp)
    found = _finite(mdp, temperature)[jnp.asarray(panel.state), jnp.asarray(panel.action)]
    return found + _log_moves(mdp, panel) if transitions else found


def scores(
    model: Model, theta: Numbers, panel: Panel, temperature: ArrayLike = 1.0
) -> Float[Array, "N T K"]:
    """∂ log π_θ(a|s) / ∂θ of every observation, by forward mode: K directions, any number of rows.

    In float64 whatever JAX's default is. Raises `InputError` for observations outside the MDP.
    """
    with jax.enable_x64(True):
        check_panel(panel, made(model, theta))
        alpha = check_temperature(temperature)
        table = score_table(model, jnp.asarray(theta, jnp.float64), alpha)
        return table[jnp.asarray(panel.state), jnp.asarray(panel.action)]


@eqx.filter_jit
def score_table(
    model: Model, theta: Float[Array, " K"], temperature: ArrayLike
) -> Float[Array, "S A K"]:
    """∂ log π_θ / ∂θ of every state and action; 0 for actions that are not available."""
    return jax.jacfwd(lambda theta: log_policy_table(model, theta, temperature))(theta)


def log_policy_table(model: Model, theta: PyTree, temperature: ArrayLike) -> Float[Array, "S A"]:
    """`log_policy` with 0 where an action is not available: its weight is 0, and 0 · −∞ is NaN."""
    return _finite(model(theta), temperature)


def _finite(mdp: MDP, temperature: ArrayLike) -> Float[Array, "S A"]:
    table = log_policy_of(mdp, temperature)
    return table if mdp.mask is None else jnp.where(mdp.mask, table, 0)


def _log_moves(mdp: MDP, panel: Panel) -> Float[Array, "N T"]:
    kernel = as_kernel(mdp.transition)
    where = (jnp.asarray(x) for x in panel)
    return jnp.log(kernel.probability_of(*where))
