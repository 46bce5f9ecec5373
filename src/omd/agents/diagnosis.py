"""What a model's loss does for control: its gradient beside the true Bellman error's, and which
part of the values' error is the model's."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array

from omd import parts
from omd.agents.agent import Agent
from omd.agents.learners.learner import Hyper
from omd.agents.models.model import squared_error
from omd.agents.objectives.objective import AgentState, Context
from omd.agents.objectives.omd import Omd
from omd.types import Metrics, PyTree, Transition


@dataclasses.dataclass(frozen=True)
class _Noted(Context):
    """A context that notes the gradient of each step of θ."""

    gradients: Any

    def descend(self, state: AgentState, gradient: PyTree) -> AgentState:
        self.gradients.append(gradient)
        return super().descend(state, gradient)


def diagnose(
    agent: Agent, state: AgentState, batches: list[Transition], key: Array, h: Hyper
) -> Metrics:
    """Figures of one update of the agent, which isn't taken; scalars. `batches` are those that
    `agent.update` would get; of several updates the first counts.

    `alignment` is the cosine between the gradient of the objective's (first) step of θ and that of
    the true Bellman error, eq. (13), on the first minibatch, NaN where one of them is zero.
    `value_error` is the mean squared true Bellman residual Q_w − B Q_w̄ there; it is the sum of
    `value_error_critic`, of Q_w − B^θ Q_w̄, `value_error_model`, of B^θ Q_w̄ − B Q_w̄, and twice
    their mean product, `value_error_both`. `model_mse` is the squared error of the next state.
    """
    gradients: list[PyTree] = []
    context = agent.context(key, h)
    fields = {f.name: getattr(context, f.name) for f in dataclasses.fields(context)}
    batches = batches[: len(batches) // agent.updates]
    agent.objective.update(state, batches, _Noted(**fields, gradients=gradients))
    omd: Omd = parts.part_of("objective", "omd").bound(agent.objective.setup)
    wanted = omd.model_gradient(state, batches[:1], context).gradient
    mine = gradients[0]
    lengths = jnp.asarray(optax.tree.norm(mine)) * jnp.asarray(optax.tree.norm(wanted))
    made = agent.model.predict(state.theta, batches[0], key)
    q = agent.learner.predictions(state.learner.w, batches[0])
    true = context.targets(
        state.learner, batches[0].reward, batches[0].next_observation, batches[0]
    )
    modelled = context.targets(state.learner, made.reward, made.sample, batches[0])
    critic, model = q - modelled, modelled - true
    return {
        "alignment": jnp.asarray(optax.tree.vdot(mine, wanted)) / lengths,
        "model_mse": squared_error(made, batches[0]),
        "value_error": jnp.mean(jnp.square(q - true)),
        "value_error_critic": jnp.mean(jnp.square(critic)),
        "value_error_model": jnp.mean(jnp.square(model)),
        "value_error_both": 2 * jnp.mean(critic * model),
    }
