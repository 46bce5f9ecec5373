"""The inner learner for continuous actions: soft actor-critic (appendix F) with a tanh-Gaussian
actor, double critics, target critics and a learned temperature."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, UInt32

from omd import catalogue
from omd.agents import networks
from omd.agents.actions import to_range, to_unit
from omd.agents.learners.learner import Hyper, Learner, moving_average, smallest
from omd.parts import setting
from omd.types import EnvSpec, Metrics, PyTree, Transition

LOG_STD_RANGE = (-10.0, 2.0)


class SacTarget(NamedTuple):
    critics: PyTree
    """w̄, the moving average of w."""
    actor: networks.Mlp
    log_temperature: Float[Array, ""]


class SacState(NamedTuple):
    w: PyTree
    target: SacTarget
    moments: PyTree
    actor_moments: PyTree
    """Adam's, for the actor and log α together."""


class Noise(NamedTuple):
    """Random numbers of one action."""

    normal: Float[Array, " act"]
    explore: Float[Array, ""]
    random_action: Float[Array, " act"]
    """Uniform in [−1, 1]."""


class Sac(Learner):
    """Q-networks take (s, a); networks see actions in [−1, 1], everyone else in the
    environment's range. The policy's entropy is that of actions in [−1, 1]."""

    defaults: ClassVar[Mapping[str, Any]] = catalogue.entries("learner")["sac"].defaults
    implicit_defaults: ClassVar[Mapping[str, Any]] = catalogue.entries("learner")[
        "sac"
    ].implicit_defaults

    target_entropy: float | None = setting(
        None, "Entropy that the temperature aims at, in nats; none: −(dimension of an action)/2."
    )

    @classmethod
    def takes(cls, spec: EnvSpec) -> bool:
        """Continuous actions within bounds."""
        return spec.num_actions is None

    @property
    def actions(self) -> int:
        """Dimension of an action."""
        assert self.spec.action_size is not None
        return self.spec.action_size

    @property
    def aimed_entropy(self) -> float:
        """The entropy that the temperature aims at, in nats."""
        return -self.actions / 2 if self.target_entropy is None else self.target_entropy

    def init(self, key: Array, hyper: Hyper) -> SacState:
        critics_key, actor_key = jax.random.split(key)
        w = self._critics(critics_key)
        sizes = (self.spec.observation_size, 2 * self.actions, self.hidden)
        actor = networks.orthogonal_mlp(
            actor_key, *sizes, dtype=self.dtype, activation=self.activation
        )
        log_temperature = jnp.log(jnp.asarray(hyper.temperature, self.dtype))
        optimizer = self.optimizer(0.0)
        return SacState(
            w,
            SacTarget(w, actor, log_temperature),
            optimizer.init(w),
            optimizer.init((actor, log_temperature)),
        )

    def restart(self, state: SacState, key: Array, hyper: Hyper) -> SacState:
        w = self._critics(key)
        target = state.target._replace(critics=w)
        return state._replace(w=w, target=target, moments=self.optimizer(0.0).init(w))

    def _critics(self, key: Array) -> tuple[networks.Mlp, ...]:
        sizes = (self.spec.observation_size + self.actions, 1, self.hidden)
        return networks.random_mlps(
            self.critics, key, *sizes, dtype=self.dtype, activation=self.activation
        )

    @property
    def action_bits(self) -> int:
        return 2 * self.actions + 1

    def noise(self, bits: UInt32[Array, " action_bits"]) -> Noise:
        # 23 bits, centred: never 0 or 1 in any precision
        uniform = ((bits >> 9).astype(self.dtype) + 0.5) * 2.0**-23
        normal = math.sqrt(2) * jax.lax.erf_inv(2 * uniform[: self.actions] - 1)
        return Noise(normal, uniform[self.actions], 2 * uniform[self.actions + 1 :] - 1)

    def evaluation_noise(self, bits: UInt32[Array, " action_bits"]) -> Noise:
        """None: evaluations take the action of the mean (appendix F)."""
        noise = self.noise(bits)
        return noise._replace(normal=jnp.zeros_like(noise.normal))

    def act(
        self, state: SacState, observation: Float[Array, " obs"], noise: Noise, hyper: Hyper
    ) -> Float[Array, " act"]:
        mean, log_std = self._gaussian(state.target.actor, observation[:, None])
        unit = jnp.tanh(mean[:, 0] + noise.normal * jnp.exp(log_std[:, 0]))
        unit = jnp.where(noise.explore < hyper.epsilon, noise.random_action, unit)
        return to_range(self.spec, unit)

    def greedy(
        self, state: SacState, observation: Float[Array, "batch obs"]
    ) -> Float[Array, "batch act"]:
        mean, _ = self._gaussian(state.target.actor, observation.T)
        return to_range(self.spec, jnp.tanh(mean).T)

    def _gaussian(
        self, actor: networks.Mlp, x: Float[Array, "obs batch"]
    ) -> tuple[Float[Array, "act batch"], Float[Array, "act batch"]]:
        """Mean and logarithm of the standard deviation, before tanh."""
        mean, log_std = jnp.split(networks.apply(actor, x), 2)
        return mean, jnp.clip(log_std, *LOG_STD_RANGE)

    def squashed(
        self, actor: networks.Mlp, x: Float[Array, "obs batch"], normal: Float[Array, "act batch"]
    ) -> tuple[Float[Array, "act batch"], Float[Array, " batch"]]:
        """a = tanh(μ + σ·normal) in [−1, 1], features first, and log π(a|s)."""
        mean, log_std = self._gaussian(actor, x)
        u = mean + normal * jnp.exp(log_std)
        log_density = self._log_density(u, normal, log_std)
        return jnp.tanh(u), log_density

    @staticmethod
    def _log_density(
        u: Float[Array, "act batch"],
        normal: Float[Array, "act batch"],
        log_std: Float[Array, "act batch"],
    ) -> Float[Array, " batch"]:
        """log of the density of tanh(u), u = μ + σ·normal."""
        log_density = -0.5 * jnp.square(normal) - log_std - 0.5 * math.log(2 * math.pi)
        # log(1 − tanh²u), exact for large |u| too
        log_slope = 2 * (math.log(2) - u - jax.nn.softplus(-2 * u))
        return jnp.sum(log_density - log_slope, axis=0)

    def q(
        self, w: PyTree, x: Float[Array, "obs batch"], unit: Float[Array, "act batch"]
    ) -> Float[Array, "critics batch"]:
        """Q_w(s, a) of each critic; both arguments features first, actions in [−1, 1]."""
        joint = jnp.concatenate([x, unit])
        return jnp.stack([networks.apply(critic, joint)[0] for critic in w])

    def tangent_kernels(self, w: PyTree, batch: Transition) -> Float[Array, "critics batch batch"]:
        joint = jnp.concatenate([batch.observation.T, to_unit(self.spec, batch.action).T])
        one = jnp.ones((1, joint.shape[1]), joint.dtype)
        return jnp.stack([networks.tangent_kernel(critic, joint, one) for critic in w])

    def value(
        self, target: SacTarget, observation: Float[Array, "batch obs"], hyper: Hyper, key: Array
    ) -> Float[Array, " batch"]:
        """min Q_w̄(s, a) − α log π(a|s), a ~ π(·|s).

        Gradients reach s through the target critics alone: to the actor, s is a constant.
        """
        x = observation.T
        normal = self._normal(key, x)
        unit, log_density = self.squashed(target.actor, jax.lax.stop_gradient(x), normal)
        value = smallest(self.q(target.critics, x, unit))
        return value - jnp.exp(target.log_temperature) * log_density

    def action_values(
        self, target: SacTarget, observation: Float[Array, "batch obs"], hyper: Hyper, key: Array
    ) -> Float[Array, "critics batch"]:
        """Q_w̄(s, a) of each target critic, a ~ π(·|s) a constant."""
        x = observation.T
        unit, _ = self.squashed(target.actor, x, self._normal(key, x))
        return self.q(target.critics, x, jax.lax.stop_gradient(unit))

    @property
    def has_policy(self) -> bool:
        """The actor."""
        return True

    def policy(self, state: SacState) -> PyTree:
        """The actor's parameters."""
        return state.target.actor

    def policy_loss(
        self,
        policy: PyTree,
        state: SacState,
        observation: Float[Array, "batch obs"],
        hyper: Hyper,
        key: Array,
    ) -> Float[Array, ""]:
        """Mean of α log π(a|s) − min Q_w̄(s, a), a drawn by `key`."""
        x = observation.T
        unit, log_density = self.squashed(policy, x, self._normal(key, x))
        value = smallest(self.q(state.target.critics, x, unit))
        return jnp.mean(jnp.exp(state.target.log_temperature) * log_density - value)

    def sample(
        self, state: SacState, observation: Float[Array, "batch obs"], hyper: Hyper, key: Array
    ) -> tuple[Float[Array, "batch act"], Float[Array, " batch"]]:
        """a ~ π(·|s) in the environment's range, and log π(a|s) of actions in [−1, 1]."""
        x = observation.T
        unit, log_density = self.squashed(state.target.actor, x, self._normal(key, x))
        return to_range(self.spec, unit.T), log_density

    def log_prob(
        self, state: SacState, observation: Float[Array, "batch obs"], action: Array, hyper: Hyper
    ) -> Float[Array, " batch"]:
        """log π(a|s), the density of actions in [−1, 1]; those at the ends count as just inside."""
        mean, log_std = self._gaussian(state.target.actor, observation.T)
        inside = 1 - 4 * jnp.finfo(self.dtype).eps
        u = jnp.arctanh(jnp.clip(to_unit(self.spec, action).T, -inside, inside))
        return self._log_density(u, (u - mean) * jnp.exp(-log_std), log_std)

    def predictions(self, w: PyTree, batch: Transition) -> Float[Array, "critics batch"]:
        return self.q(w, batch.observation.T, to_unit(self.spec, batch.action).T)

    def step(
        self,
        state: SacState,
        y: Float[Array, " batch"],
        batch: Transition,
        hyper: Hyper,
        key: Array,
    ) -> tuple[SacState, Metrics]:
        """One Adam step of w on the targets y, of w̄ towards w, of the actor on
        α log π(a|s) − min Q_w(s, a), and of log α on α (entropy − target entropy)."""
        w, moments, info = self.critic_step(state.w, state.moments, y, batch, hyper)
        critics = moving_average(state.target.critics, w, hyper.tau)
        x = batch.observation.T
        normal = self._normal(jax.random.fold_in(key, 1), x)

        def loss(policy):
            actor, log_temperature = policy
            unit, log_density = self.squashed(actor, x, normal)
            temperature = jnp.exp(log_temperature)
            value = smallest(self.q(w, x, unit))
            actor_loss = jnp.mean(jax.lax.stop_gradient(temperature) * log_density - value)
            entropy = -jnp.mean(log_density)
            gap = jax.lax.stop_gradient(entropy - self.aimed_entropy)
            return actor_loss + temperature * gap, (actor_loss, entropy, temperature)

        policy = (state.target.actor, state.target.log_temperature)
        gradient, (actor_loss, entropy, temperature) = jax.grad(loss, has_aux=True)(policy)
        updates, actor_moments = self.optimizer(hyper.inner_learning_rate).update(
            gradient, state.actor_moments, policy
        )
        actor, log_temperature = optax.apply_updates(policy, updates)
        info |= {"actor_loss": actor_loss, "entropy": entropy, "temperature": temperature}
        target = SacTarget(critics, actor, log_temperature)
        return SacState(w, target, moments, actor_moments), info

    def entropy_bonus(self, state: SacState, hyper: Hyper) -> Float[Array, ""]:
        """α times the entropy of uniform actions in [−1, 1], or the one aimed at if that is
        larger in size."""
        size = max(self.actions * math.log(2), abs(self.aimed_entropy))
        return jnp.exp(state.target.log_temperature) * size

    def dead_units(self, w: PyTree, batch: Transition) -> Int[Array, "layers 2"]:
        joint = jnp.concatenate([batch.observation.T, to_unit(self.spec, batch.action).T])
        return jnp.concatenate([networks.dead_units(critic, joint) for critic in w])

    def saturation(
        self, state: SacState, observation: Float[Array, "batch obs"]
    ) -> Float[Array, ""]:
        """The share of the most probable actions' components that are at an end of their range, to
        1 %, where tanh has next to no gradient."""
        mean, _ = self._gaussian(state.target.actor, observation.T)
        return jnp.mean(jnp.abs(jnp.tanh(mean)) > 0.99, dtype=self.dtype)

    def _normal(self, key: Array, x: Float[Array, "obs batch"]) -> Float[Array, "act batch"]:
        return jax.random.normal(key, (self.actions, x.shape[1]), self.dtype)
