"""The outer loop's interface, and what every objective does with the model and the learner."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from omd.agents.learners.learner import Hyper, Learner, LearnerState
from omd.agents.models.model import Model, Prediction, squared_error
from omd.implicit import AbstractMethod
from omd.types import Metrics, PyTree, Transition


class AgentState(NamedTuple):
    theta: PyTree
    """Parameters θ of the model."""
    moments: optax.OptState
    """Adam's, for θ."""
    learner: LearnerState
    constants: PyTree
    """What the objective drew once, such as VEP's value networks."""


@dataclasses.dataclass(frozen=True)
class Objective(abc.ABC):
    """One update of θ together with K inner steps of the learner."""

    model: Model
    learner: Learner
    inner_steps: int
    model_steps: int
    reset_moments: bool
    """Whether each inner loop begins with fresh moments of the inner Adam."""
    cold_start: bool
    constraint_target: str
    fresh_outer_batch: bool
    method: AbstractMethod
    vep_values: int

    @property
    @abc.abstractmethod
    def minibatches(self) -> int:
        """Minibatches that one update takes."""

    @abc.abstractmethod
    def update(
        self, state: AgentState, batches: list[Transition], key: Array, hyper: Hyper
    ) -> tuple[AgentState, Metrics]:
        """One outer step on θ and K inner steps on w."""

    def init_model(self, key: Array, hyper: Hyper) -> tuple[PyTree, optax.OptState]:
        """θ and Adam's moments for it."""
        theta = self.model.init(key)
        return theta, self.optimizer(hyper).init(theta)

    def init_constants(self, key: Array) -> PyTree:
        return ()

    def predict(self, theta: PyTree, batch: Transition, key: Array) -> Prediction:
        """The model on a minibatch, with noise drawn from the key if it is a Gaussian."""
        noise = None
        if self.model.gaussian:
            shape = batch.next_observation.shape
            noise = jax.random.normal(key, shape, batch.next_observation.dtype)
        return self.model.predict(theta, batch, noise)

    def optimizer(self, hyper: Hyper) -> optax.GradientTransformation:
        return optax.flatten(optax.adam(hyper.learning_rate))

    def descend(
        self, state: AgentState, gradient: PyTree, hyper: Hyper
    ) -> tuple[PyTree, optax.OptState]:
        """θ after one Adam step of the outer loop."""
        updates, moments = self.optimizer(hyper).update(gradient, state.moments)
        return optax.apply_updates(state.theta, updates), moments

    def inner_keys(self, key: Array) -> Array:
        """One key for each inner step, from the update's."""
        return jax.random.split(jax.random.fold_in(key, 2), self.inner_steps)

    def begin_inner_loop(self, state: LearnerState) -> Any:
        if self.reset_moments:
            return state._replace(moments=self.learner.optimizer(0.0).init(state.w))
        return state

    def inner_loop(
        self, step: Callable[..., tuple[Any, Metrics]], state: LearnerState, batches, *others
    ) -> tuple[Any, Metrics]:
        """`step(state, batch, ...)` over the inner loop's minibatches, and the last one's info."""
        state = self.begin_inner_loop(state)
        state, info = step(state, batches[0], *(x[0] for x in others))
        if len(batches) > 1:
            stacked = jax.tree.map(lambda *x: jnp.stack(x), *batches[1:])
            rest = [jnp.stack([*x[1:]]) for x in others]
            state, infos = jax.lax.scan(lambda s, x: step(s, *x), state, (stacked, *rest))
            info = jax.tree.map(lambda x: x[-1], infos)
        return state, info


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
        **info,
    }
