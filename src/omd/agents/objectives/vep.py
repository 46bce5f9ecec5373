"""The value equivalence principle, eq. (14), with state-independent policies and random values."""

from __future__ import annotations

from typing import Literal

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

    values: int = setting(5, "Random value networks, eq. (14).", low=1, high=1000)
    form: Literal["reference", "equation"] = setting(
        "reference",
        "Where the reward is learned: `equation` is eq. (14), which squares reward and value "
        "errors together for each V; `reference` squares them apart and takes the reward's once, "
        "as the authors' program does.",
    )

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
        return networks.random_mlps(
            self.values, key, *sizes, dtype=self.dtype, activation=self.settings.activation
        )

    def loss(
        self, prediction: Prediction, batch: Transition, state: AgentState, context: Context
    ) -> Float[Array, ""]:
        """In the form `equation`, eq. (14): Σ_V mean (r − r̂ + γ (V(s') − V(ŝ')))², with r̂ = r where
        rewards are known. In the form `reference`: mean (r − r̂)² + Σ_V mean (V(s') − V(ŝ'))².

        The sum over deterministic state-independent policies is the sum over the minibatch's
        actions.
        """
        joint = self.form == "equation"
        reward = batch.reward - prediction.reward if joint else 0.0
        scale = context.hyper.discount if joint else 1.0
        apart = context.model.learned_reward and not joint
        total = reward_error(prediction, batch) if apart else jnp.zeros(())
        for value in state.constants:
            true = networks.apply(value, batch.next_observation.T)
            made = networks.apply(value, prediction.mean.T)
            total = total + jnp.mean(jnp.square(reward + scale * (true - made)))
        return total
