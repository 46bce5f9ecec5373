"""Signs that training goes wrong, on transitions that a lane has seen."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from omd.agents.agent import Agent
from omd.agents.learners.learner import Hyper
from omd.agents.objectives.objective import AgentState
from omd.types import Metrics, Transition

MARGIN = 1.1
"""Of the largest return: networks miss the values they are fitted to by some percent."""


def signs(
    agent: Agent,
    state: AgentState,
    batch: Transition,
    hyper: Hyper,
    largest_reward: Float[Array, ""],
) -> Metrics:
    """Scalars, taken on a minibatch; `largest_reward` is the largest |r| of the environment.

    `q_beyond` is the share of transitions where some critic's |Q_w(s, a)| is above what the
    environment allows by more than a tenth: above 1.1 (r + e) / (1 − γ), where e is the most that
    the entropy adds in a step. `policy_saturation` is `Learner.saturation`. `dead_units` counts the
    hidden units of Q-networks and model that are zero on the whole minibatch, `dead_share` is their
    share in the layer that has the largest. NaN where a part doesn't know.
    """
    q = jnp.abs(agent.learner.predictions(state.learner.w, batch))
    bonus = agent.learner.entropy_bonus(state.learner, hyper)
    bound = MARGIN * (largest_reward + bonus) / (1 - hyper.discount)
    layers = [agent.learner.dead_units(state.learner.w, batch)]
    if agent.objective.uses_model:
        layers.append(agent.model.dead_units(state.theta, batch))
    dead, units = jnp.concatenate(layers).astype(q.dtype).T
    unknown = jnp.full((), jnp.nan, q.dtype)
    return {
        # not <=: a Q that isn't a number is beyond as well
        "q_beyond": jnp.mean(~jnp.all(q <= bound, axis=0), dtype=q.dtype),
        "policy_saturation": agent.learner.saturation(state.learner, batch.observation),
        "dead_units": jnp.sum(dead) if dead.size else unknown,
        "dead_share": jnp.max(dead / jnp.maximum(units, 1)) if dead.size else unknown,
    }
