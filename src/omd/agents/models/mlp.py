"""Models with hidden layers: separate networks for next state and reward, or a joint one."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from omd.agents import networks
from omd.agents.models.model import Model, Prediction
from omd.types import PyTree, Transition

LOG_STD_RANGE = (-5.0, 2.0)


class Deterministic(Model):
    """One predicted next state (appendix D)."""

    numbers: ClassVar[int] = 1
    """Numbers that the network gives for each dimension of the state."""

    def init(self, key: Array) -> PyTree:
        """θ: a network for the next state and, where rewards are learned, one for the reward; or
        one for both, the reward last."""
        spec = self.spec
        inputs = spec.observation_size + (spec.num_actions or spec.action_size or 0)
        outputs = {"state": spec.observation_size * self.numbers, "reward": 1}
        if not self.learned_reward:
            del outputs["reward"]
        elif self.settings.model_network == "joint":
            outputs = {"joint": sum(outputs.values())}
        keys = jax.random.split(key, 2)
        shape = (self.width, self.dtype, self.setup.padded)
        return {
            name: networks.orthogonal_mlp(
                k, inputs, size, *shape, activation=self.settings.model_activation
            )
            for (name, size), k in zip(outputs.items(), keys, strict=False)
        }

    def predict(self, theta: PyTree, batch: Transition, key: Array) -> Prediction:
        """Next states and rewards for the minibatch's states and actions."""
        (mean,), reward = self._outputs(theta, batch)
        return Prediction(mean, None, mean, reward)

    def _outputs(
        self, theta: PyTree, batch: Transition
    ) -> tuple[list[Float[Array, "batch obs"]], Float[Array, " batch"]]:
        """The numbers for each dimension of the next state, the mean first, and the reward."""
        x = self.inputs(batch)
        if "joint" in theta:
            both = networks.apply(theta["joint"], x)
            out, reward = both[:-1].T, both[-1]
        else:
            out = networks.apply(theta["state"], x).T
            reward = networks.apply(theta["reward"], x)[0] if self.learned_reward else batch.reward
        mean, *rest = jnp.split(out, self.numbers, axis=1)
        if self.settings.model_output == "change":
            mean = mean + batch.observation
        return [mean, *rest], reward

    def live_units(self, theta: PyTree, batch: Transition) -> dict[str, Int[Array, ""]]:
        """By network and layer, such as `state_2`; units that only pad the width are never live."""
        x = self.inputs(batch)
        return {
            f"{name}_{layer}": jnp.sum(jnp.any(outputs > 0, axis=1))
            for name, mlp in theta.items()
            for layer, outputs in enumerate(networks.hidden_outputs(mlp, x), 1)
        }

    def dead_units(self, theta: PyTree, batch: Transition) -> Int[Array, "layers 2"]:
        """Of all its networks; units that only pad the width don't count. None where a subclass has
        made another θ of them."""
        if not isinstance(theta, dict):
            return super().dead_units(theta, batch)
        x = self.inputs(batch)
        return jnp.concatenate([networks.dead_units(mlp, x) for mlp in theta.values()])


class Gaussian(Deterministic):
    """A Gaussian next state with a standard deviation for each dimension."""

    stochastic: ClassVar[bool] = True
    numbers: ClassVar[int] = 2

    def predict(self, theta: PyTree, batch: Transition, key: Array) -> Prediction:
        """Next states, drawn by `key`, and rewards for the minibatch's states and actions."""
        shape = batch.next_observation.shape
        noise = jax.random.normal(key, shape, batch.next_observation.dtype)
        (mean, log_std), reward = self._outputs(theta, batch)
        log_std = jnp.clip(log_std, *LOG_STD_RANGE)
        return Prediction(mean, log_std, mean + noise * jnp.exp(log_std), reward)

    def state_loss(self, prediction: Prediction, batch: Transition) -> Float[Array, ""]:
        """The negative log-likelihood, summed over state dimensions, mean over the minibatch."""
        return jnp.mean(jnp.sum(self.state_errors(prediction, batch), axis=1))

    def state_errors(self, prediction: Prediction, batch: Transition) -> Float[Array, "batch obs"]:
        """Negative log-likelihoods."""
        assert prediction.log_std is not None
        return -jax.scipy.stats.norm.logpdf(
            batch.next_observation, prediction.mean, jnp.exp(prediction.log_std)
        )
