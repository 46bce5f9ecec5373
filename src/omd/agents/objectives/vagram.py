"""VaGraM: a squared error weighted by the gradient of the value function."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from omd.agents.models.model import Prediction, reward_error
from omd.agents.objectives.fitted import Fitted
from omd.agents.objectives.objective import AgentState, Context
from omd.types import Transition


class Vagram(Fitted):
    """Errors count where they change the value: Σ_j (∂V/∂s'_j (ŝ'_j − s'_j))², mean over the
    minibatch, plus the squared reward error. V is the mean of the target critics at the policy's
    action, and its gradient at the true next state a constant.

    Source: Voelcker, Liao, Garg, Farahmand, "Value Gradient weighted Model-Based Reinforcement
    Learning" (2022), the weighted squared error of its section 4.
    """

    def loss(
        self, prediction: Prediction, batch: Transition, state: AgentState, context: Context
    ) -> Float[Array, ""]:
        """The weighted error of the model's mean, and the reward's."""
        weight = self.value_gradient(batch.next_observation, state, context)
        error = weight * (prediction.mean - batch.next_observation)
        loss = jnp.mean(jnp.sum(jnp.square(error), axis=1))
        return loss + (reward_error(prediction, batch) if context.model.learned_reward else 0)

    @staticmethod
    def value_gradient(
        observation: Float[Array, "batch obs"], state: AgentState, context: Context
    ) -> Float[Array, "batch obs"]:
        """∂V/∂s of each state."""

        def total(observation):
            return jnp.sum(jnp.mean(context.action_values(state.learner, observation), axis=0))

        return jax.lax.stop_gradient(jax.grad(total)(observation))
