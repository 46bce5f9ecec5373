"""The value equivalence principle, eq. (14), with state-independent policies and random values."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array

from omd.agents import networks
from omd.agents.models.model import Prediction, reward_error
from omd.agents.objectives.fitted import Fitted
from omd.types import PyTree, Transition


class Vep(Fitted):
    def init_constants(self, key: Array) -> PyTree:
        """The random value networks V ∈ 𝒱 (appendix D)."""
        learner = self.learner
        sizes = (learner.spec.observation_size, 1, learner.hidden)
        return networks.random_mlps(self.vep_values, key, *sizes, dtype=learner.dtype)

    def loss(self, prediction: Prediction, batch: Transition, constants: PyTree) -> Array:
        """Σ_V of the squared difference of V at the true and the predicted next state, plus the
        squared reward error; the sum over deterministic state-independent policies is the sum
        over the minibatch's actions."""
        total = reward_error(prediction, batch) if self.model.learned_reward else jnp.zeros(())
        for value in constants:
            true = networks.apply(value, batch.next_observation.T)
            made = networks.apply(value, prediction.mean.T)
            total = total + jnp.mean(jnp.square(true - made))
        return total
