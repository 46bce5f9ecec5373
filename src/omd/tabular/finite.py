"""Problems with a last period: values by backward induction, for any γ up to 1."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from omd.errors import InputError
from omd.tabular.checks import check_count, one_number, real_array
from omd.tabular.kernels import Numbers
from omd.tabular.mdp import MDP
from omd.tabular.solvers import Operator, check_operator, check_temperature, wide_problem


class FiniteSolution(eqx.Module):
    """Values of every period, the first at index 0."""

    q: Float[Array, "T S A"]
    """−∞ where an action is not available."""
    v: Float[Array, "T S"]
    policy: Float[Array, "T S A"]


def solve_finite(
    mdp: MDP,
    horizon: int,
    temperature: ArrayLike = 0.01,
    *,
    terminal: Numbers | None = None,
    operator: Operator = "soft",
    discount: ArrayLike | None = None,
) -> FiniteSolution:
    """Q_t = r + γ P V_{t+1} for t = horizon − 1, …, 0, with V at the horizon given.

    `terminal`[S] is what states are worth after the last action, 0 where it is left out. `discount`
    takes the place of the MDP's and may be 1, though policies never end. The `ends` of an
    undiscounted MDP keep their terminal value and pay no entropy. Arithmetic is in float64;
    differentiable in both modes.

    Raises `InputError` for a horizon below 1, a terminal value of another shape, a discount outside
    [0, 1], and as `solve` for operator and temperature.
    """
    check_count("horizon", horizon)
    if terminal is not None and np.shape(real_array("terminal", terminal)) != (mdp.num_states,):
        raise InputError(
            f"terminal has shape {np.shape(terminal)} where the MDP asks for [S] = "
            f"({mdp.num_states},); give one value for each state."
        )
    if terminal is not None and not isinstance(terminal, jax.core.Tracer):
        lost = ~np.isfinite(np.asarray(terminal))
        if lost.any():
            raise InputError(f"terminal[{int(lost.argmax())}] is not finite; give finite values.")
    check_operator(operator)
    with jax.enable_x64(True):
        alpha = None if operator == "hard" else check_temperature(temperature)
        # with a last period, ends need no discount of 0
        stepping = eqx.tree_at(lambda m: m.ends, mdp, None, is_leaf=lambda x: x is None)
        problem = wide_problem(stepping, alpha)._replace(ends=mdp.ends)
        if discount is not None:
            gamma = jnp.asarray(one_number("discount", discount))
            if not isinstance(discount, jax.core.Tracer) and not 0 <= np.asarray(discount) <= 1:
                raise InputError(f"discount must lie in [0, 1], but is {discount}.")
            problem = problem._replace(discount=gamma)
        last = jnp.zeros(mdp.num_states) if terminal is None else terminal
        return _induction(mdp, problem, jnp.asarray(last, jnp.float64), int(horizon))


@eqx.filter_jit
def _induction(mdp, problem, terminal, horizon) -> FiniteSolution:
    dtype = mdp.reward.dtype

    def back(v, _):
        q = problem.lookahead(v)
        v = problem.value(q)
        shown = q if mdp.mask is None else jnp.where(mdp.mask, q, -jnp.inf)
        return v, tuple(x.astype(dtype) for x in (shown, v, problem.derivative(q)))

    _, (q, v, policy) = jax.lax.scan(back, terminal, None, horizon, reverse=True)
    return FiniteSolution(q, v, policy)
