"""The interface of an objective: one outer step on θ together with K inner steps."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from omd import parts
from omd.agents.learners.learner import Hyper, Learner, LearnerState
from omd.agents.models.model import Model, Prediction, squared_error
from omd.agents.setup import AgentPart
from omd.errors import InputError
from omd.implicit import AbstractMethod
from omd.settings import Settings
from omd.types import Metrics, PyTree, Transition


class AgentState(NamedTuple):
    """All that training changes in one lane."""

    theta: PyTree
    """Parameters θ of the model."""
    moments: PyTree
    """The optimiser's, for θ."""
    learner: LearnerState
    constants: PyTree
    """What the objective keeps besides: drawn once, such as VEP's value networks, or trained."""
    rollouts: PyTree = ()
    """The model buffer and what tells ends, where the model makes rollouts."""


@dataclasses.dataclass(frozen=True)
class Context:
    """What an objective may use in an update: the other parts, the lane's numbers, a key."""

    model: Model
    learner: Learner
    method: AbstractMethod
    """The hypergradient."""
    hyper: Hyper
    key: Array
    reset_moments: bool
    """Whether each inner loop begins with fresh moments of the learner's optimiser."""

    def predict(self, theta: PyTree, batch: Transition, key: Array | None = None) -> Prediction:
        """The model on a minibatch; `key` draws its samples, by default the update's own."""
        return self.model.predict(theta, batch, self.key if key is None else key)

    def value(
        self,
        learner: LearnerState,
        observation: Float[Array, "batch obs"],
        key: Array | None = None,
    ) -> Float[Array, " batch"]:
        """V(s) of the target network, differentiable in s; `key` draws the action where the
        learner samples it."""
        key = self.key if key is None else key
        return self.learner.value(learner.target, observation, self.hyper, key)

    def targets(
        self,
        learner: LearnerState,
        reward: Float[Array, " batch"],
        next_observation: Float[Array, "batch obs"],
        batch: Transition,
        key: Array | None = None,
    ) -> Float[Array, " batch"]:
        """r + γ V(s'), without the second term where the minibatch says terminated."""
        key = self.key if key is None else key
        return self.learner.targets(
            learner.target, reward, next_observation, batch, self.hyper, key
        )

    def step_as_stored(
        self, learner: LearnerState, batch: Transition, key: Array
    ) -> tuple[Any, Metrics]:
        """One inner step on the minibatch's own rewards and next states."""
        y = self.targets(learner, batch.reward, batch.next_observation, batch, key)
        return self.learner.step(learner, y, batch, self.hyper, key)

    def action_values(
        self,
        learner: LearnerState,
        observation: Float[Array, "batch obs"],
        key: Array | None = None,
    ) -> Float[Array, "critics batch"]:
        """Q(s, a) of each target critic at the policy's action, differentiable in s; the action is
        a constant."""
        key = self.key if key is None else key
        return self.learner.action_values(learner.target, observation, self.hyper, key)

    def policy_gradient(
        self,
        learner: LearnerState,
        observation: Float[Array, "batch obs"],
        key: Array | None = None,
    ) -> PyTree:
        """The gradient of the learner's policy loss in the policy's parameters, mean over these
        states; differentiable in them. Only where `learner.has_policy`."""
        key = self.key if key is None else key
        policy = self.learner.policy(learner)

        def loss(policy):
            return self.learner.policy_loss(policy, learner, observation, self.hyper, key)

        return jax.grad(loss)(policy)

    def log_prob(
        self, learner: LearnerState, observation: Float[Array, "batch obs"], action: Array
    ) -> Float[Array, " batch"]:
        """log π(a|s) of the acting policy."""
        return self.learner.log_prob(learner, observation, action, self.hyper)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """The outer loop's, at the lane's learning rate."""
        optimizer = self.model.settings.model_optimizer
        return optax.flatten(optimizer.transformation(self.hyper.learning_rate))

    def descend(self, state: AgentState, gradient: PyTree) -> AgentState:
        """The state after one step of θ."""
        updates, moments = self.optimizer.update(gradient, state.moments, state.theta)
        theta = optax.apply_updates(state.theta, updates)
        return state._replace(theta=theta, moments=moments)

    def begin_inner_loop(self, learner: Any) -> Any:
        """The learner's state at the start of an inner loop, its moments fresh where so set."""
        if self.reset_moments:
            return learner._replace(moments=self.learner.optimizer(0.0).init(learner.w))
        return learner

    def inner_loop(
        self,
        step: Callable[..., tuple[Any, Metrics]],
        learner: LearnerState,
        batches: list[Transition],
        *others: Any,
    ) -> tuple[Any, Metrics]:
        """`step(learner, batch, ...)` over the inner loop's minibatches; the last one's metrics."""
        learner = self.begin_inner_loop(learner)
        learner, info = step(learner, batches[0], *(x[0] for x in others))
        if len(batches) > 1:
            stacked = jax.tree.map(lambda *x: jnp.stack(x), *batches[1:])
            rest = [jnp.stack([*x[1:]]) for x in others]
            learner, infos = jax.lax.scan(lambda s, x: step(s, *x), learner, (stacked, *rest))
            info = jax.tree.map(lambda x: x[-1], infos)
        return learner, info


class Objective(AgentPart, abc.ABC):
    """What the model is trained for. Its fields are its settings.

    An objective of one's own subclasses this one and gives `minibatches` and `update`; one that
    fits the model first and then trains the learner on its transitions subclasses `Fitted` and
    gives `loss`, or `TwoStep` and gives `fit` where one prediction of the model isn't enough.
    """

    implicit: ClassVar[bool] = False
    """Whether it differentiates through the inner problem, and hence has a hypergradient."""
    uses_model: ClassVar[bool] = True
    rolls_out: ClassVar[bool] = False
    """Whether the learner may train on the model's rollouts under the current policy."""

    @property
    @abc.abstractmethod
    def minibatches(self) -> int:
        """Minibatches that one update takes."""

    @abc.abstractmethod
    def update(
        self, state: AgentState, batches: list[Transition], context: Context
    ) -> tuple[AgentState, Metrics]:
        """One outer step on θ and K = `self.settings.inner_steps` inner steps on w, and metrics
        (`diagnostics` gives those that all objectives have). A pure function of one lane."""

    @property
    def window(self) -> int:
        """Transitions in a row that each entry of a minibatch brings. Where there are several,
        `batches` holds as many for each minibatch, one after another, those that follow after
        those drawn; entries may run past an episode's end."""
        return 1

    def check(self, settings: Settings) -> None:
        """Raises `InputError` where the run's other settings don't go with this objective."""
        held = min(settings.random_steps, settings.capacity)
        if self.window > max(held, 1):
            raise InputError(
                f"objective {parts.text_of(self)!r} takes {self.window} transitions in a row, but "
                f"the replay buffer holds only {held} when learning starts: raise random_steps and "
                "replay_capacity, or take fewer steps"
            )

    def init_model(self, key: Array, context: Context) -> tuple[PyTree, PyTree]:
        """θ and the optimiser's moments for it."""
        theta = context.model.init(key)
        return theta, context.optimizer.init(theta)

    def init_constants(self, key: Array, context: Context) -> PyTree:
        """What the objective keeps besides θ, as it is before the first step."""
        return ()

    def inner_keys(self, key: Array) -> Array:
        """One key for each inner step, from the update's."""
        return jax.random.split(jax.random.fold_in(key, 2), self.settings.inner_steps)


def diagnostics(
    loss: Array, gradient: PyTree, prediction: Prediction, batch: Transition, info: Metrics
) -> Metrics:
    """The figures that every objective logs; the learner's own are passed through."""
    return {
        "outer_loss": loss,
        "outer_gradient_norm": optax.tree.norm(gradient),
        "model_mse": squared_error(prediction, batch),
        "solve_residual": jnp.full((), jnp.nan, loss.dtype),
        "solve_iterations": jnp.zeros((), loss.dtype),
        "solve_status": jnp.full((), jnp.nan, loss.dtype),
        "solve_failed": jnp.full((), jnp.nan, loss.dtype),
        **info,
    }
