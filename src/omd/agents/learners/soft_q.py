"""The inner learner for discrete actions: soft Q-learning with double Q-networks and a target
network, eq. (3), (10) and appendix D."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from omd import catalogue
from omd.agents import networks
from omd.agents.learners.learner import Hyper, Learner, moving_average, smallest
from omd.parts import setting
from omd.types import EnvSpec, Metrics, PyTree, Transition


class SoftQState(NamedTuple):
    w: PyTree
    target: PyTree
    """w̄, the moving average of w."""
    moments: PyTree


class Noise(NamedTuple):
    """Random numbers of one action."""

    gumbel: Float[Array, " actions"]
    explore: Float[Array, ""]
    random_action: Int[Array, ""]


class SoftQ(Learner):
    """Soft Q-learning: the policy is the softmax of Q, eq. (3)."""

    defaults: ClassVar[Mapping[str, Any]] = catalogue.entries("learner")["soft-q"].defaults
    resets_moments: ClassVar[bool] = True

    operator: Literal["soft", "hard"] = setting(
        "soft", "Log-sum-exp and softmax at the temperature, or maximum and arg max."
    )

    @classmethod
    def takes(cls, spec: EnvSpec) -> bool:
        """Discrete actions."""
        return spec.num_actions is not None

    @property
    def hard(self) -> bool:
        """Whether the operator is the maximum."""
        return self.operator == "hard"

    def init(self, key: Array, hyper: Hyper) -> SoftQState:
        sizes = (self.spec.observation_size, self.actions, self.hidden)
        w = networks.random_mlps(
            self.critics, key, *sizes, dtype=self.dtype, activation=self.activation
        )
        return SoftQState(w, w, self.optimizer(0.0).init(w))

    def restart(self, state: SoftQState, key: Array, hyper: Hyper) -> SoftQState:
        return self.init(key, hyper)

    @property
    def actions(self) -> int:
        """Number of actions."""
        assert self.spec.num_actions is not None
        return self.spec.num_actions

    @property
    def action_bits(self) -> int:
        return self.actions + 2

    def noise(self, bits: UInt32[Array, " action_bits"]) -> Noise:
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
        self, state: SoftQState, observation: Float[Array, " obs"], noise: Noise, hyper: Hyper
    ) -> Int[Array, ""]:
        """a ~ softmax of the critics' mean at the temperature (arg max where the operator is
        hard), a uniform one with probability ε."""
        q = jnp.mean(jnp.stack(self.q(state.w, observation[None])), axis=0)[:, 0]
        greedy = jnp.argmax(q if self.hard else q / hyper.temperature + noise.gumbel)
        return jnp.where(noise.explore < hyper.epsilon, noise.random_action, greedy).astype(
            jnp.int32
        )

    def greedy(
        self, state: SoftQState, observation: Float[Array, "batch obs"]
    ) -> Int[Array, " batch"]:
        return jnp.argmax(sum(self.q(state.w, observation)), axis=0).astype(jnp.int32)

    def value(
        self, target: PyTree, observation: Float[Array, "batch obs"], hyper: Hyper, key: Array
    ) -> Float[Array, " batch"]:
        """V(s) = α log Σ_a exp(Q(s, a)/α) of the smaller critic, or max_a Q(s, a); nothing is
        drawn."""
        q = smallest(self.q(target, observation))
        if self.hard:
            return -smallest(-q)
        temperature = hyper.temperature
        top = jax.lax.stop_gradient(jnp.max(q, axis=0))
        return top + temperature * jnp.log(jnp.sum(jnp.exp((q - top) / temperature), axis=0))

    def action_values(
        self, target: PyTree, observation: Float[Array, "batch obs"], hyper: Hyper, key: Array
    ) -> Float[Array, "critics batch"]:
        """Σ_a π(a|s) Q(s, a) of each target critic, π the target networks' policy, a constant."""
        q = jnp.stack(self.q(target, observation))
        weights = jax.nn.softmax(self._scores(jnp.mean(q, axis=0), hyper), axis=0)
        return jnp.sum(jax.lax.stop_gradient(weights) * q, axis=1)

    @property
    def has_policy(self) -> bool:
        """The softmax of the critics; the arg max of a hard operator has no gradient."""
        return not self.hard

    def policy(self, state: SoftQState) -> PyTree:
        """w: the policy is the critics' softmax."""
        return state.w

    def policy_loss(
        self,
        policy: PyTree,
        state: SoftQState,
        observation: Float[Array, "batch obs"],
        hyper: Hyper,
        key: Array,
    ) -> Float[Array, ""]:
        """Mean of Σ_a π(a|s) (α log π(a|s) − Q(s, a)), nothing drawn."""
        logits = jnp.mean(jnp.stack(self.q(policy, observation)), axis=0) / hyper.temperature
        log_policy = jax.nn.log_softmax(logits, axis=0)
        q = smallest(self.q(state.target, observation))
        gain = hyper.temperature * log_policy - q
        return jnp.mean(jnp.sum(jnp.exp(log_policy) * gain, axis=0))

    def sample(
        self, state: SoftQState, observation: Float[Array, "batch obs"], hyper: Hyper, key: Array
    ) -> tuple[Int[Array, " batch"], Float[Array, " batch"]]:
        """a ~ softmax of the critics' mean at the temperature, and log π(a|s)."""
        logits = self._logits(state, observation, hyper)
        action = jax.random.categorical(key, logits).astype(jnp.int32)
        return action, self.log_prob(state, observation, action, hyper)

    def log_prob(
        self, state: SoftQState, observation: Float[Array, "batch obs"], action: Array, hyper: Hyper
    ) -> Float[Array, " batch"]:
        """log π(a|s) of the softmax policy."""
        table = jax.nn.log_softmax(self._logits(state, observation, hyper))
        return jnp.take_along_axis(table, action[:, None], axis=1)[:, 0]

    def _logits(
        self, state: SoftQState, observation: Float[Array, "batch obs"], hyper: Hyper
    ) -> Float[Array, "batch actions"]:
        return self._scores(jnp.mean(jnp.stack(self.q(state.w, observation)), axis=0), hyper).T

    def _scores(self, q: Float[Array, "actions batch"], hyper: Hyper) -> Array:
        """What the policy is the softmax of, [actions, batch]."""
        # arg max, where the operator is hard, as the limit of small temperatures
        if self.hard:
            return jnp.where(q == q.max(0, keepdims=True), 0, -jnp.inf)
        return q / hyper.temperature

    def predictions(self, w: PyTree, batch: Transition) -> Float[Array, "critics batch"]:
        chosen = self._chosen(batch)
        return jnp.stack([jnp.sum(q * chosen, axis=0) for q in self.q(w, batch.observation)])

    def tangent_kernels(self, w: PyTree, batch: Transition) -> Float[Array, "critics batch batch"]:
        x, chosen = batch.observation.T, self._chosen(batch)
        return jnp.stack([networks.tangent_kernel(critic, x, chosen) for critic in w])

    def entropy_bonus(self, state: SoftQState, hyper: Hyper) -> Float[Array, ""]:
        """α log of the number of actions; 0 for the hard operator."""
        return hyper.temperature * (0.0 if self.hard else math.log(self.actions))

    def dead_units(self, w: PyTree, batch: Transition) -> Int[Array, "layers 2"]:
        x = batch.observation.T
        return jnp.concatenate([networks.dead_units(critic, x) for critic in w])

    def saturation(
        self, state: SoftQState, observation: Float[Array, "batch obs"]
    ) -> Float[Array, ""]:
        """The share of states that get the action taken most often: 1 where it is the same one in
        all. NaN where there is one action only."""
        if self.actions == 1:
            return super().saturation(state, observation)
        taken = jax.nn.one_hot(self.greedy(state, observation), self.actions, dtype=self.dtype)
        return jnp.max(jnp.mean(taken, axis=0))

    def _chosen(self, batch: Transition) -> Float[Array, "actions batch"]:
        return jax.nn.one_hot(batch.action, self.actions, axis=0, dtype=self.dtype)

    def step(
        self,
        state: SoftQState,
        y: Float[Array, " batch"],
        batch: Transition,
        hyper: Hyper,
        key: Array,
    ) -> tuple[SoftQState, Metrics]:
        """One Adam step of w on the targets y, then one step of w̄ towards w."""
        w, moments, info = self.critic_step(state.w, state.moments, y, batch, hyper)
        return SoftQState(w, moving_average(state.target, w, hyper.tau), moments), info
