"""An ensemble of probabilistic networks with normalised inputs and targets: the likelihood baseline
of model-based reinforcement learning."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from omd.agents import networks
from omd.agents.models.model import Model, Prediction
from omd.config import Widths
from omd.errors import InputError
from omd.parts import setting
from omd.types import Transition

LOG_STD_RANGE = (-5.0, 1.0)
"""Of normalised targets."""
SLOWEST = 1e-3
"""Share of a minibatch in the running statistics once many have been seen."""


class Statistics(NamedTuple):
    """Running mean and variance of each number."""

    mean: Float[Array, " numbers"]
    variance: Float[Array, " numbers"]


class Theta(NamedTuple):
    """θ; the gradient reaches `members` alone."""

    members: networks.Mlp
    """Leaves have a leading axis of members."""
    inputs: Statistics
    targets: Statistics
    errors: Float[Array, " members"]
    """Running held-out errors, by which elites are chosen."""
    seen: Float[Array, ""]
    """Minibatches in the statistics."""


class Ensemble(Model):
    """Gaussian networks of next state and reward, each trained on all data but a held-out share.

    A prediction comes from an elite member drawn for each entry of the minibatch. Inputs and
    targets are normalised by running statistics. Which transitions are held out is a function of
    their numbers, so that a transition keeps its side, but for rounding at the limit.

    Sources: Chua et al., "Deep reinforcement learning in a handful of trials" (2018); Janner et
    al., "When to trust your model" (2019).
    """

    stochastic: ClassVar[bool] = True

    members: int = setting(5, "Networks.", low=1, high=1000)
    elites: int | None = setting(
        None, "Members with the lowest held-out error that predict; all by default.", low=1
    )
    hidden: int | None = setting(
        None, "Units in each hidden layer; by default the run's model_hidden.", low=1, high=100_000
    )
    layers: int = setting(
        2, "Hidden layers of each network, where model_hidden is one number.", low=1, high=8
    )
    weight_decay: float = setting(1e-4, "Share of a weight that a step at rate 1 takes.", low=0)
    held_out: float = setting(
        0.1, "Share of transitions that no member is trained on.", low=0, high=1, open_high=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.elites is None:
            return
        if self.members == 1:
            raise InputError(
                "elites of an ensemble of one: give members 2 or more, or leave elites out"
            )
        if self.elites > self.members:
            raise InputError(
                f"elites is {self.elites}, but the ensemble has {self.members} members: give at "
                "most as many"
            )
        if self.elites < self.members and self.held_out == 0:
            raise InputError("elites are chosen by held-out error: give held_out above 0")

    @property
    def width(self) -> Widths:
        """Units of the hidden layers."""
        return self.hidden or self.settings.model_hidden

    @property
    def outputs(self) -> int:
        """Numbers that are predicted: the next state's, and the reward where it is learned."""
        return self.spec.observation_size + self.learned_reward

    def init(self, key: Array) -> Theta:
        """Members of their own draws, statistics of standard normal numbers."""
        spec = self.spec
        inputs = spec.observation_size + (spec.num_actions or spec.action_size or 0)
        padded = self.hidden or self.setup.padded
        each = [
            networks.orthogonal_mlp(
                k,
                inputs,
                2 * self.outputs,
                self.width,
                self.dtype,
                padded,
                layers=self.layers,
                activation=self.settings.model_activation,
            )
            for k in jax.random.split(key, self.members)
        ]
        return Theta(
            jax.tree.map(lambda *x: jnp.stack(x), *each),
            Statistics(jnp.zeros(inputs, self.dtype), jnp.ones(inputs, self.dtype)),
            Statistics(jnp.zeros(self.outputs, self.dtype), jnp.ones(self.outputs, self.dtype)),
            jnp.zeros(self.members, self.dtype),
            jnp.zeros((), self.dtype),
        )

    def predict(self, theta: Theta, batch: Transition, key: Array) -> Prediction:
        """For each entry of the minibatch the Gaussian of an elite member, and a draw from it."""
        which, noise = jax.random.split(key)
        size = batch.reward.shape[0]
        elites = jnp.argsort(theta.errors)[: self.elites or self.members]
        member = elites[jax.random.randint(which, (size,), 0, elites.size)]
        mean, log_std = self._normalised(theta, batch)
        mean, log_std = (x[member, jnp.arange(size)] for x in (mean, log_std))
        scale = self._scale(theta.targets)
        mean = mean * scale + jax.lax.stop_gradient(theta.targets.mean)
        log_std = log_std + jnp.log(scale)
        reward = mean[:, -1] if self.learned_reward else batch.reward
        numbers = self.spec.observation_size
        mean, log_std = mean[:, :numbers], log_std[:, :numbers]
        if self.settings.model_output == "change":
            mean = mean + batch.observation
        drawn = jax.random.normal(noise, mean.shape, mean.dtype)
        return Prediction(mean, log_std, mean + drawn * jnp.exp(log_std), reward)

    def likelihood(
        self, theta: Theta, batch: Transition, key: Array
    ) -> tuple[Float[Array, ""], Prediction]:
        """Negative log-likelihood of the normalised next state and reward, summed over dimensions,
        mean over members and the entries that aren't held out."""
        errors = self._errors(theta, batch)
        trained = ~self.is_held_out(batch)
        total = jnp.sum(jnp.where(trained, errors, 0), axis=1)
        loss = jnp.mean(total / jnp.maximum(jnp.sum(trained), 1))
        return loss, self.predict(theta, batch, key)

    def observe(self, theta: Theta, batch: Transition, learning_rate: Array) -> Theta:
        """Statistics and held-out errors with this minibatch in them, and weights after decay."""
        share = jnp.maximum(1 / (theta.seen + 1), SLOWEST)
        held = self.is_held_out(batch)
        errors = jnp.sum(jnp.where(held, self._errors(theta, batch), 0), axis=1)
        errors = errors / jnp.maximum(jnp.sum(held), 1)
        known = jnp.where(jnp.any(held), share, 0)
        decay = 1 - learning_rate * self.weight_decay
        members = tuple(
            jax.tree.map(lambda x: x * decay if x.ndim == 3 else x, layer)
            for layer in theta.members
        )
        return Theta(
            members,
            _moved(theta.inputs, self.inputs(batch).T, share),
            _moved(theta.targets, self._targets(batch), share),
            theta.errors + known * (errors - theta.errors),
            theta.seen + 1,
        )

    def is_held_out(self, batch: Transition) -> Bool[Array, " batch"]:
        """Whether an entry is kept from training."""
        numbers = jnp.concatenate([batch.observation, batch.next_observation], axis=1)
        places = 1 + jnp.arange(numbers.shape[1], dtype=numbers.dtype)
        mixed = 1e3 * jnp.sum(jnp.sin(numbers * 10 + places) * jnp.sqrt(places), axis=1)
        return mixed - jnp.floor(mixed) < self.held_out

    def _targets(self, batch: Transition) -> Float[Array, "batch outputs"]:
        after = batch.next_observation
        if self.settings.model_output == "change":
            after = after - batch.observation
        reward = [batch.reward[:, None]] if self.learned_reward else []
        return jnp.concatenate([after, *reward], axis=1)

    def _normalised(
        self, theta: Theta, batch: Transition
    ) -> tuple[Float[Array, "members batch outputs"], Float[Array, "members batch outputs"]]:
        """Mean and logarithm of the standard deviation of each member's normalised outputs."""
        x = self._normalised_inputs(theta, batch)
        out = jax.vmap(lambda mlp: networks.apply(mlp, x).T)(theta.members)
        mean, log_std = jnp.split(out, 2, axis=2)
        return mean, jnp.clip(log_std, *LOG_STD_RANGE)

    def _normalised_inputs(self, theta: Theta, batch: Transition) -> Float[Array, "inputs batch"]:
        statistics = jax.lax.stop_gradient(theta.inputs)
        return (self.inputs(batch) - statistics.mean[:, None]) / self._scale(statistics)[:, None]

    def dead_units(self, theta: Theta, batch: Transition) -> Int[Array, "layers 2"]:
        """Of all members."""
        x = self._normalised_inputs(theta, batch)
        counts = jax.vmap(lambda mlp: networks.dead_units(mlp, x))(theta.members)
        return counts.reshape(-1, 2)

    def _errors(self, theta: Theta, batch: Transition) -> Float[Array, "members batch"]:
        mean, log_std = self._normalised(theta, batch)
        statistics = jax.lax.stop_gradient(theta.targets)
        targets = (self._targets(batch) - statistics.mean) / self._scale(statistics)
        return -jnp.sum(jax.scipy.stats.norm.logpdf(targets, mean, jnp.exp(log_std)), axis=2)

    @staticmethod
    def _scale(statistics: Statistics) -> Float[Array, " numbers"]:
        """Standard deviations; of what never changes 1."""
        variance = jax.lax.stop_gradient(statistics.variance)
        return jnp.where(variance > 1e-12, jnp.sqrt(jnp.maximum(variance, 1e-12)), 1)


def _moved(
    statistics: Statistics, numbers: Float[Array, "batch numbers"], share: Array
) -> Statistics:
    """Running statistics with a minibatch at this share: exact mean and variance of the mixture."""
    mean, variance = jnp.mean(numbers, axis=0), jnp.var(numbers, axis=0)
    gap = mean - statistics.mean
    return Statistics(
        statistics.mean + share * gap,
        (1 - share) * (statistics.variance + share * jnp.square(gap)) + share * variance,
    )
