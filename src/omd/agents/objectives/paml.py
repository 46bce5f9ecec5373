"""Policy-aware model learning: policy gradients at true and at model-made states."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from omd import parts
from omd.agents.models.model import Prediction, reward_error
from omd.agents.objectives.fitted import Fitted
from omd.agents.objectives.objective import AgentState, Context
from omd.errors import InputError
from omd.settings import Settings
from omd.types import Transition


class Paml(Fitted):
    """‖∇J(s') − ∇J(ŝ')‖², the policy's gradients at the minibatch's true and model-made next
    states, plus the squared reward error. ∇J is that of the learner's policy loss: the mean of
    α log π(a|s) − Q(s, a), Q the target critics' smaller one.

    Source: Abachi, Ghavamzadeh, Farahmand, "Policy-aware model learning for policy gradient
    methods" (2020), with one model step in place of the discounted distribution of states.
    """

    def check(self, settings: Settings) -> None:
        """Raises `InputError` for a learner without a policy that has a gradient."""
        super().check(settings)
        if not settings.learner.has_policy:
            raise InputError(
                f"objective 'paml' needs the gradient of a policy, but learner "
                f"{parts.text_of(settings.learner)!r} has none: give learner 'sac' or 'soft-q'"
            )

    def loss(
        self, prediction: Prediction, batch: Transition, state: AgentState, context: Context
    ) -> Float[Array, ""]:
        """The squared distance of the two gradients, and the squared reward error."""
        true = jax.lax.stop_gradient(context.policy_gradient(state.learner, batch.next_observation))
        made = context.policy_gradient(state.learner, prediction.sample)
        gap = optax.tree.sub(made, true)
        loss = jnp.asarray(optax.tree.norm(gap, squared=True))
        return loss + (reward_error(prediction, batch) if context.model.learned_reward else 0)
