"""The value equivalence principle, eq. (14), with state-independent policies and random values."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from omd.agents import networks
from omd.agents.models.model import Prediction, reward_error
from omd.agents.objectives.fitted import Fitted
from omd.agents.objectives.objective import AgentState, Context
from omd.errors import InputError
from omd.parts import setting
from omd.settings import Settings
from omd.types import PyTree, Transition


class Vep(Fitted):
    """Values of random networks at the next state (appendix D)."""

    values: int = setting(5, "Random value networks, eq. (14).", low=1)

    def check(self, settings: Settings) -> None:
        """Raises `InputError` for a model that predicts no single state."""
        super().check(settings)
        if settings.model.stochastic:
            raise InputError(
                "objective 'vep' compares values at one predicted state: give model 'deterministic'"
            )

    def init_constants(self, key: Array, context: Context) -> PyTree:
        """The random value networks V ∈ 𝒱 (appendix D)."""
        sizes = (self.spec.observation_size, 1, self.settings.hidden)
        return networks.random_mlps(self.values, key, *sizes, dtype=self.dtype)

    def loss(
        self, prediction: Prediction, batch: Transition, state: AgentState, context: Context
    ) -> Float[Array, ""]:
        """Σ_V of the squared difference of V at the true and the predicted next state, plus the
        squared reward error; the sum over deterministic state-independent policies is the sum
        over the minibatch's actions."""
        learned = context.model.learned_reward
        total = reward_error(prediction, batch) if learned else jnp.zeros(())
        for value in state.constants:
            true = networks.apply(value, batch.next_observation.T)
            made = networks.apply(value, prediction.mean.T)
            total = total + jnp.mean(jnp.square(true - made))
        return total
