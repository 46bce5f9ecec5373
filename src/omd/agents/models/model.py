"""The world model (p_θ, r_θ): separate networks for the next state and the reward, or a joint one
(design §4)."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from omd.agents import networks
from omd.agents.actions import to_unit
from omd.types import EnvSpec, PyTree, Transition

LOG_STD_RANGE = (-5.0, 2.0)


class Prediction(NamedTuple):
    mean: Float[Array, "batch obs"]
    log_std: Float[Array, "batch obs"] | None
    """None for a deterministic model."""
    sample: Float[Array, "batch obs"]
    """s' ~ p_θ(s'|s, a), reparametrised; the mean where the model is deterministic."""
    reward: Float[Array, batch]


@dataclasses.dataclass(frozen=True)
class Model:
    """Static side of the model; θ is the pytree that `init` returns."""

    spec: EnvSpec
    width: int
    padded: int
    gaussian: bool
    learned_reward: bool
    joint: bool
    """One network gives next state and reward, instead of one each."""
    change: bool
    """The network gives s' − s instead of s'."""
    dtype: Any

    def init(self, key: Array) -> PyTree:
        """θ: a network for the next state and, where rewards are learned, one for the reward; or
        one for both, the reward last."""
        spec = self.spec
        inputs = spec.observation_size + (spec.num_actions or spec.action_size or 0)
        outputs = {"state": spec.observation_size * (2 if self.gaussian else 1), "reward": 1}
        if not self.learned_reward:
            del outputs["reward"]
        elif self.joint:
            outputs = {"joint": sum(outputs.values())}
        keys = jax.random.split(key, 2)
        return {
            name: networks.orthogonal_mlp(k, inputs, size, self.width, self.dtype, self.padded)
            for (name, size), k in zip(outputs.items(), keys, strict=False)
        }

    def predict(self, theta: PyTree, batch: Transition, noise: Array | None) -> Prediction:
        """Next states and rewards for the minibatch's states and actions.

        `noise` [batch, obs] is standard normal, or None for a deterministic model. Where rewards
        are known, the minibatch's own are passed on.
        """
        action = batch.action
        if self.spec.num_actions is not None:
            action = jax.nn.one_hot(action, self.spec.num_actions, dtype=self.dtype)
        else:
            action = to_unit(self.spec, action)
        x = jnp.concatenate([batch.observation, action], axis=1).T
        if "joint" in theta:
            both = networks.apply(theta["joint"], x)
            out, reward = both[:-1].T, both[-1]
        else:
            out = networks.apply(theta["state"], x).T
            reward = networks.apply(theta["reward"], x)[0] if self.learned_reward else batch.reward
        mean, *rest = jnp.split(out, 1 + self.gaussian, axis=1)
        if self.change:
            mean = mean + batch.observation
        if not rest:
            return Prediction(mean, None, mean, reward)
        log_std = jnp.clip(rest[0], *LOG_STD_RANGE)
        assert noise is not None
        return Prediction(mean, log_std, mean + noise * jnp.exp(log_std), reward)

    def transition(self, prediction: Prediction, batch: Transition) -> Transition:
        """The minibatch with model-made rewards and next states; terminations stay true."""
        return batch._replace(reward=prediction.reward, next_observation=prediction.sample)


def squared_error(prediction: Prediction, batch: Transition) -> Float[Array, ""]:
    """Squared error of the mean, summed over state dimensions, averaged over the minibatch."""
    error = prediction.mean - batch.next_observation
    return jnp.mean(jnp.sum(jnp.square(error), axis=1))


def reward_error(prediction: Prediction, batch: Transition) -> Float[Array, ""]:
    return jnp.mean(jnp.square(prediction.reward - batch.reward))
