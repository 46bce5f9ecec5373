"""Objectives that fit the model to data by a loss of its own, and then let the learner train on it:
the two-step recipe of Dyna, against which OMD is held."""

from __future__ import annotations

import abc

import jax
from jaxtyping import Array

from omd.agents.learners.learner import Hyper
from omd.agents.models.model import Prediction
from omd.agents.objectives.objective import AgentState, Objective, diagnostics
from omd.types import Metrics, PyTree, Transition


class Fitted(Objective):
    """Model steps on minibatches of their own, then K inner steps, each on a fresh minibatch."""

    @abc.abstractmethod
    def loss(self, prediction: Prediction, batch: Transition, constants: PyTree) -> Array:
        """What θ minimises, on one minibatch."""

    @property
    def minibatches(self) -> int:
        return self.model_steps + self.inner_steps

    def update(
        self, state: AgentState, batches: list[Transition], key: Array, hyper: Hyper
    ) -> tuple[AgentState, Metrics]:
        keys = (
            jax.random.split(key, self.minibatches) if self.model.gaussian else [key] * len(batches)
        )

        def fit(theta, batch, key):
            prediction = self.predict(theta, batch, key)
            return self.loss(prediction, batch, state.constants), prediction

        for batch, k in zip(batches[: self.model_steps], keys, strict=False):
            (loss, prediction), gradient = jax.value_and_grad(fit, has_aux=True)(
                state.theta, batch, k
            )
            theta, moments = self.descend(state, gradient, hyper)
            state = state._replace(theta=theta, moments=moments)
        fitted = batch

        def inner_step(learner, batch, key, inner_key):
            made = self.predict(state.theta, batch, key)
            y = self.learner.targets(
                learner.target, made.reward, made.sample, batch, hyper, inner_key
            )
            return self.learner.step(learner, y, batch, hyper, inner_key)

        learner, info = self.inner_loop(
            inner_step,
            state.learner,
            batches[self.model_steps :],
            keys[self.model_steps :],
            self.inner_keys(key),
        )
        return state._replace(learner=learner), diagnostics(
            loss, gradient, prediction, fitted, info
        )
