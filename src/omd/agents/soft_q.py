"""The inner learner for discrete actions: soft Q-learning with double Q-networks and a target
network, eq. (3), (10) and appendix D."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, UInt32

from omd.agents import networks
from omd.types import EnvSpec, InputError, PyTree, Transition


class Hyper(NamedTuple):
    """Settings that may differ between the lanes of one program: scalars, or arrays with a lane
    axis."""

    learning_rate: Array
    inner_learning_rate: Array
    tau: Array
    temperature: Array
    epsilon: Array
    discount: Array


class LearnerState(NamedTuple):
    w: PyTree
    target: PyTree
    """w̄, the moving average of w."""
    moments: optax.OptState


class Noise(NamedTuple):
    """Random numbers of one action."""

    gumbel: Float[Array, actions]
    explore: Float[Array, ""]
    random_action: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class SoftQ:
    """Static side of the learner; its networks are the pytrees in `LearnerState`."""

    spec: EnvSpec
    hidden: int
    critics: int
    hard: bool
    dtype: Any

    def init(self, key: Array) -> LearnerState:
        sizes = (self.spec.observation_size, self.actions, self.hidden)
        w = networks.random_mlps(self.critics, key, *sizes, dtype=self.dtype)
        return LearnerState(w, w, self.optimizer(0.0).init(w))

    def optimizer(self, rate) -> optax.GradientTransformation:
        """Adam over one flat vector: a few passes instead of a few for each of the weights."""
        return optax.flatten(optax.adam(rate))

    @property
    def actions(self) -> int:
        """Number of actions; raises `InputError` where they are continuous."""
        if self.spec.num_actions is None:
            raise InputError(
                f"environment {self.spec.id!r} has continuous actions, which soft Q-learning can't "
                "take: choose one with discrete actions (`omd list`)"
            )
        return self.spec.num_actions

    @property
    def action_bits(self) -> int:
        """Random 32-bit numbers that one action takes."""
        return self.actions + 2

    def noise(self, bits: UInt32[Array, " action_bits"]) -> Noise:
        """The random numbers of one action, from uniform 32-bit ones."""
        # 23 bits, centred: never 0 or 1 in any precision
        uniform = ((bits >> 9).astype(self.dtype) + 0.5) * 2.0**-23
        *_, explore, choice = uniform
        return Noise(
            -jnp.log(-jnp.log(uniform[: self.actions])),
            explore,
            (choice * self.actions).astype(jnp.int32),
        )

    def q(self, w: PyTree, observation: Float[Array, "batch obs"]) -> tuple[Array, ...]:
        """Q_w(s, ·) of each critic, [actions, batch]."""
        return tuple(networks.apply(critic, observation.T) for critic in w)

    def act(
        self, w: PyTree, observation: Float[Array, " obs"], noise: Noise, temperature, epsilon
    ) -> Int[Array, ""]:
        """a ~ softmax of the critics' mean at the temperature (arg max where the operator is
        hard), a uniform one with probability ε."""
        q = jnp.mean(jnp.stack(self.q(w, observation[None])), axis=0)[:, 0]
        greedy = jnp.argmax(q if self.hard else q / temperature + noise.gumbel)
        return jnp.where(noise.explore < epsilon, noise.random_action, greedy).astype(jnp.int32)

    def value(
        self, target: PyTree, observation: Float[Array, "batch obs"], temperature
    ) -> Float[Array, " batch"]:
        """V(s) = α log Σ_a exp(Q(s, a)/α) of the smaller critic, or max_a Q(s, a)."""
        qs = self.q(target, observation)
        q = qs[0] if self.critics == 1 else jnp.minimum(*qs)
        top = jnp.max(q, axis=0)
        if self.hard:
            return top
        top = jax.lax.stop_gradient(top)
        return top + temperature * jnp.log(jnp.sum(jnp.exp((q - top) / temperature), axis=0))

    def targets(
        self, target: PyTree, reward: Array, next_observation: Array, batch: Transition, hyper
    ) -> Float[Array, " batch"]:
        """B Q_w̄ (s, a), eq. (3): reward + γ V(s'), without the second term where s' is terminal."""
        value = self.value(target, next_observation, hyper.temperature)
        return reward + jnp.where(batch.terminated, 0, hyper.discount) * value

    def predictions(self, w: PyTree, batch: Transition) -> Float[Array, "critics batch"]:
        """Q_w(s, a) at the minibatch's states and actions."""
        chosen = jax.nn.one_hot(batch.action, self.actions, axis=0, dtype=self.dtype)
        return jnp.stack([jnp.sum(q * chosen, axis=0) for q in self.q(w, batch.observation)])

    def bellman_error(
        self, w: PyTree, target: PyTree, batch: Transition, hyper
    ) -> Float[Array, ""]:
        """Eq. (10) on model-made transitions, eq. (11) on true ones: mean over critics and
        minibatch of the squared difference."""
        y = self.targets(target, batch.reward, batch.next_observation, batch, hyper)
        return mean_squared(self.predictions(w, batch), y)

    def step(
        self, state: LearnerState, y: Float[Array, " batch"], batch: Transition, hyper
    ) -> tuple[LearnerState, dict[str, Array]]:
        """One Adam step of w on the targets y, then one step of w̄ towards w."""
        q, pull_back = jax.vjp(lambda w: self.predictions(w, batch), state.w)
        (gradient,) = pull_back(2 * (q - y) / q.size)
        updates, moments = self.optimizer(hyper.inner_learning_rate).update(gradient, state.moments)
        w = optax.apply_updates(state.w, updates)
        target = jax.tree.map(
            lambda new, old: hyper.tau * new + (1 - hyper.tau) * old, w, state.target
        )
        info = {
            "inner_loss": mean_squared(q, y),
            "inner_gradient_norm": optax.tree.norm(gradient),
            "q_mean": jnp.mean(q),
        }
        return LearnerState(w, target, moments), info


def mean_squared(q: Float[Array, "critics batch"], y: Float[Array, " batch"]) -> Float[Array, ""]:
    return jnp.mean(jnp.square(q - y))
