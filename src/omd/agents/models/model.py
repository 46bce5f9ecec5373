"""The interface of a world model (p_θ, r_θ), section 3."""

from __future__ import annotations

import abc
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from omd.agents.actions import to_unit
from omd.agents.setup import AgentPart
from omd.config import Widths
from omd.types import PyTree, Transition


class Prediction(NamedTuple):
    """What a model says of a minibatch's states and actions."""

    mean: Float[Array, "batch obs"]
    log_std: Float[Array, "batch obs"] | None
    """None for a model that predicts one state."""
    sample: Float[Array, "batch obs"]
    """s' ~ p_θ(s'|s, a), differentiable in θ; the mean where the model predicts one state."""
    reward: Float[Array, " batch"]


class Model(AgentPart, abc.ABC):
    """Predicts next states and rewards; θ is the pytree that `init` returns.

    A model of one's own subclasses this one and gives `init` and `predict`.
    """

    stochastic: ClassVar[bool] = False
    """Whether it predicts a distribution of next states."""

    @property
    def learned_reward(self) -> bool:
        """Whether the run learns rewards; else `predict` passes the minibatch's own on."""
        return self.settings.reward == "learned"

    @property
    def width(self) -> Widths:
        """Units of the hidden layers: the setting `model_hidden`, which may differ by lane."""
        return self.settings.model_hidden

    @abc.abstractmethod
    def init(self, key: Array) -> PyTree:
        """θ before the first step."""

    @abc.abstractmethod
    def predict(self, theta: PyTree, batch: Transition, key: Array) -> Prediction:
        """Next states and rewards for the minibatch's states and actions.

        `key` draws the samples of a stochastic model. Where rewards are known the minibatch's own
        are passed on.
        """

    def likelihood(
        self, theta: PyTree, batch: Transition, key: Array
    ) -> tuple[Float[Array, ""], Prediction]:
        """The likelihood loss of next states and rewards, eq. (1), and the prediction."""
        prediction = self.predict(theta, batch, key)
        reward = reward_error(prediction, batch) if self.learned_reward else 0
        return self.state_loss(prediction, batch) + reward, prediction

    def observe(self, theta: PyTree, batch: Transition, learning_rate: Array) -> PyTree:
        """θ after a look at a minibatch at the start of an update, before any gradient, for models
        that keep statistics of the data in it; nothing otherwise."""
        return theta

    def inputs(self, batch: Transition) -> Float[Array, "inputs batch"]:
        """The minibatch's states and actions as a network takes them, features first: discrete
        actions one-hot, continuous ones in [−1, 1]."""
        action = batch.action
        if self.spec.num_actions is not None:
            action = jax.nn.one_hot(action, self.spec.num_actions, dtype=self.dtype)
        else:
            action = to_unit(self.spec, action)
        return jnp.concatenate([batch.observation, action], axis=1).T

    def state_errors(self, prediction: Prediction, batch: Transition) -> Float[Array, "batch obs"]:
        """The terms of `state_loss`, one for each entry and dimension of the next state, for
        objectives that weight them."""
        return jnp.square(prediction.mean - batch.next_observation)

    def live_units(self, theta: PyTree, batch: Transition) -> dict[str, Int[Array, ""]]:
        """For each hidden layer, by name, how many of its units are above zero for at least one
        transition of the minibatch; nothing where the model has no such layers to show."""
        return {}

    def dead_units(self, theta: PyTree, batch: Transition) -> Int[Array, "layers 2"]:
        """For each hidden layer how many units are zero on the whole minibatch, and of how many;
        no layers where the model has none to show."""
        return jnp.zeros((0, 2), jnp.int32)

    def transition(self, prediction: Prediction, batch: Transition) -> Transition:
        """The minibatch with model-made rewards and next states; terminations stay true."""
        return batch._replace(reward=prediction.reward, next_observation=prediction.sample)

    def state_loss(self, prediction: Prediction, batch: Transition) -> Float[Array, ""]:
        """The likelihood loss of the next states, eq. (1), without the reward: the squared error,
        unless the model says otherwise."""
        return squared_error(prediction, batch)


def squared_error(prediction: Prediction, batch: Transition) -> Float[Array, ""]:
    """Squared error of the mean, summed over state dimensions, averaged over the minibatch."""
    error = prediction.mean - batch.next_observation
    return jnp.mean(jnp.sum(jnp.square(error), axis=1))


def reward_error(prediction: Prediction, batch: Transition) -> Float[Array, ""]:
    """Squared error of the reward, averaged over the minibatch."""
    return jnp.mean(jnp.square(prediction.reward - batch.reward))
