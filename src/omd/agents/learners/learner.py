"""The inner loop's interface: what objectives and the training loop ask of a learner."""

from __future__ import annotations

import abc
import functools
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, UInt32

from omd.agents.setup import AgentPart
from omd.config import Widths
from omd.types import EnvSpec, Metrics, PyTree, Transition


class Hyper(NamedTuple):
    """Settings that may differ between the lanes of one program: scalars, or arrays with a lane
    axis."""

    learning_rate: Array
    inner_learning_rate: Array
    tau: Array
    temperature: Array
    epsilon: Array
    discount: Array


@runtime_checkable
class LearnerState(Protocol):
    """What every learner's state offers; each learner has a named tuple of its own."""

    @property
    def w(self) -> PyTree:
        """Parameters of the Q-networks: the constraint h = ∂L/∂w, eq. (12), is on these."""

    @property
    def target(self) -> PyTree:
        """All that targets are computed from: w̄, and with SAC the actor and its temperature."""

    @property
    def moments(self) -> PyTree:
        """The optimiser's, for w."""

    def _replace(self, **changes: Any) -> Any: ...


class Learner(AgentPart, abc.ABC):
    """The inner problem: a Q-function w trained on targets, and a policy drawn from it.

    A learner of one's own subclasses this one. Its networks are the pytrees in its state, which
    `init` makes; the constraint of eq. (12) is on `state.w`, and everything that targets are
    computed from stands in `state.target`.
    """

    defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """What this learner sets of `Config`'s settings that were left open; those of soft-q or sac,
    by the kind of action, where it names none."""
    implicit_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """On top of these, with an objective that differentiates through the inner problem."""
    resets_moments: ClassVar[bool] = False
    """What `inner_optimizer` "auto" means with such an objective: whether each inner loop begins
    with fresh moments of the optimiser."""

    @classmethod
    @abc.abstractmethod
    def takes(cls, spec: EnvSpec) -> bool:
        """Whether it can act in such an environment."""

    @property
    def hidden(self) -> Widths:
        """Units of the hidden layers of its networks: a number for each of two, or one a layer."""
        return self.settings.hidden

    @property
    def activation(self) -> str:
        """After each hidden layer of its networks, as `networks` takes it."""
        return self.settings.activation

    @property
    def critics(self) -> int:
        """Number of Q-networks."""
        return self.settings.critics

    @property
    @abc.abstractmethod
    def action_bits(self) -> int:
        """Random 32-bit numbers that one action takes."""

    @abc.abstractmethod
    def noise(self, bits: UInt32[Array, " action_bits"]) -> PyTree:
        """The random numbers of one action, from uniform 32-bit ones."""

    def evaluation_noise(self, bits: UInt32[Array, " action_bits"]) -> PyTree:
        """Those of an action in an evaluation."""
        return self.noise(bits)

    @abc.abstractmethod
    def init(self, key: Array, hyper: Hyper) -> Any:
        """The state before the first step."""

    @abc.abstractmethod
    def restart(self, state: Any, key: Array, hyper: Hyper) -> Any:
        """Fresh Q-networks, for an inner loop that starts cold; all else is kept."""

    def optimizer(self, rate) -> optax.GradientTransformation:
        """The run's, over one flat vector: a few passes instead of a few for each weight."""
        return optax.flatten(self.settings.learner_optimizer.transformation(rate))

    @abc.abstractmethod
    def act(
        self, state: Any, observation: Float[Array, " obs"], noise: PyTree, hyper: Hyper
    ) -> Array:
        """An action in the environment's range, a uniform one with probability ε."""

    @abc.abstractmethod
    def greedy(self, state: Any, observation: Float[Array, "batch obs"]) -> Array:
        """The policy's most probable actions (of the mean, for SAC), without exploration."""

    @abc.abstractmethod
    def value(
        self, target: PyTree, observation: Float[Array, "batch obs"], hyper: Hyper, key: Array
    ) -> Float[Array, " batch"]:
        """V(s) of the target networks, differentiable in the observation. `key` draws a where the
        learner samples it."""

    def action_values(
        self, target: PyTree, observation: Float[Array, "batch obs"], hyper: Hyper, key: Array
    ) -> Float[Array, "critics batch"]:
        """Q(s, a) of each target critic at the policy's action, which is a constant to gradients;
        differentiable in s. V(s) in one row where the learner doesn't say otherwise."""
        return self.value(target, observation, hyper, key)[None]

    @property
    def has_policy(self) -> bool:
        """Whether there is a policy with parameters and a loss, for objectives that ask for its
        gradient; `policy` and `policy_loss` are given then."""
        return False

    def policy(self, state: Any) -> PyTree:
        """The policy's parameters."""
        raise NotImplementedError

    def policy_loss(
        self,
        policy: PyTree,
        state: Any,
        observation: Float[Array, "batch obs"],
        hyper: Hyper,
        key: Array,
    ) -> Float[Array, ""]:
        """Mean of α log π(a|s) − Q(s, a) over these states, Q the smaller target critic, α a
        constant; differentiable twice, in the policy's parameters and the states."""
        raise NotImplementedError

    @abc.abstractmethod
    def sample(
        self, state: Any, observation: Float[Array, "batch obs"], hyper: Hyper, key: Array
    ) -> tuple[Array, Float[Array, " batch"]]:
        """Actions of the acting policy, without exploration, and the logarithm of their
        probability (of their density in [−1, 1], where actions are continuous)."""

    @abc.abstractmethod
    def log_prob(
        self, state: Any, observation: Float[Array, "batch obs"], action: Array, hyper: Hyper
    ) -> Float[Array, " batch"]:
        """The logarithm of the acting policy's probability or density of these actions."""

    def targets(
        self,
        target: PyTree,
        reward: Float[Array, " batch"],
        next_observation: Float[Array, "batch obs"],
        batch: Transition,
        hyper: Hyper,
        key: Array,
    ) -> Float[Array, " batch"]:
        """B Q_w̄ (s, a): reward + γ V(s'), without the second term where s' is terminal. `key`
        draws a' where the learner samples it."""
        value = self.value(target, next_observation, hyper, key)
        return reward + jnp.where(batch.terminated, 0, hyper.discount) * value

    @abc.abstractmethod
    def predictions(self, w: PyTree, batch: Transition) -> Float[Array, "critics batch"]:
        """Q_w(s, a) at the minibatch's states and actions."""

    def tangent_kernels(self, w: PyTree, batch: Transition) -> Float[Array, "critics batch batch"]:
        """J Jᵀ of each critic, with J = ∂Q_w(s, a)/∂w at the minibatch's states and actions, for
        hypergradients that use it. Critics share no parameter. A learner may know a cheaper way
        than this one, by products with J."""
        size = batch.reward.shape[0]
        q, pull = jax.vjp(lambda w: self.predictions(w, batch), w)

        def column(critic: int, place: Array) -> Float[Array, " batch"]:
            unit = jnp.zeros_like(q).at[critic, place].set(1)
            return jax.jvp(lambda w: self.predictions(w, batch), (w,), pull(unit))[1][critic]

        places = jnp.arange(size)
        return jnp.stack([jax.lax.map(lambda i, c=c: column(c, i), places) for c in range(len(q))])

    def entropy_bonus(self, state: Any, hyper: Hyper) -> Float[Array, ""]:
        """The most that the entropy of the policy adds to the reward of one step; 0 where the
        learner doesn't say otherwise."""
        return jnp.zeros((), self.dtype)

    def dead_units(self, w: PyTree, batch: Transition) -> Int[Array, "layers 2"]:
        """For each hidden layer of the critics how many units are zero on the whole minibatch, and
        of how many; no layers where the learner doesn't say otherwise."""
        return jnp.zeros((0, 2), jnp.int32)

    def saturation(self, state: Any, observation: Float[Array, "batch obs"]) -> Float[Array, ""]:
        """How far the policy no longer depends on the state, from 0 to 1; NaN where the learner
        doesn't say otherwise."""
        return jnp.full((), jnp.nan, self.dtype)

    def bellman_error(
        self, w: PyTree, target: PyTree, batch: Transition, hyper: Hyper, key: Array
    ) -> Float[Array, ""]:
        """Eq. (10) on model-made transitions, eq. (11) on true ones: mean over critics and
        minibatch of the squared difference."""
        y = self.targets(target, batch.reward, batch.next_observation, batch, hyper, key)
        return mean_squared(self.predictions(w, batch), y)

    @abc.abstractmethod
    def step(
        self, state: Any, y: Float[Array, " batch"], batch: Transition, hyper: Hyper, key: Array
    ) -> tuple[Any, Metrics]:
        """One step of w on the targets y, and whatever the learner moves with it."""

    def critic_step(
        self,
        w: PyTree,
        moments: PyTree,
        y: Float[Array, " batch"],
        batch: Transition,
        hyper: Hyper,
    ) -> tuple[PyTree, PyTree, Metrics]:
        """w and its moments after one step on eq. (10)."""
        q, pull_back = jax.vjp(lambda w: self.predictions(w, batch), w)
        (gradient,) = pull_back(2 * (q - y) / q.size)
        updates, moments = self.optimizer(hyper.inner_learning_rate).update(gradient, moments, w)
        info = {
            "inner_loss": mean_squared(q, y),
            "inner_gradient_norm": optax.tree.norm(gradient),
            "q_mean": jnp.mean(q),
        }
        return optax.apply_updates(w, updates), moments, info


def moving_average(target: PyTree, w: PyTree, tau) -> PyTree:
    """w̄ after one step towards w."""
    return jax.tree.map(lambda new, old: tau * new + (1 - tau) * old, w, target)


def smallest(values: Iterable[Array]) -> Array:
    """The smallest of some arrays, entry by entry; one of those that tie has the gradient.

    Not `jnp.min`, whose gradient can be 0/0 where XLA recomputes its input (docs/performance.md).
    """
    return functools.reduce(lambda a, b: jnp.where(b < a, b, a), values)


def mean_squared(q: Float[Array, "critics batch"], y: Float[Array, " batch"]) -> Float[Array, ""]:
    """Mean over critics and minibatch of (Q − y)²."""
    return jnp.mean(jnp.square(q - y))
