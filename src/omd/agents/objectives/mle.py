"""Maximum likelihood, eq. (1): the usual way to fit a model, and the baseline."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from omd.agents.models.model import Prediction, reward_error, squared_error
from omd.agents.objectives.fitted import Fitted
from omd.types import PyTree, Transition


class Mle(Fitted):
    def loss(self, prediction: Prediction, batch: Transition, constants: PyTree) -> Array:
        """Squared error, or the Gaussian's negative log-likelihood, plus squared reward error."""
        if prediction.log_std is None:
            states = squared_error(prediction, batch)
        else:
            log_density = jax.scipy.stats.norm.logpdf(
                batch.next_observation, prediction.mean, jnp.exp(prediction.log_std)
            )
            states = -jnp.mean(jnp.sum(log_density, axis=1))
        return states + (reward_error(prediction, batch) if self.model.learned_reward else 0)
