"""The two-step recipe: fit the model, then train the learner on its transitions."""

from __future__ import annotations

import abc

import jax
from jaxtyping import Array, Float

from omd.agents.models.model import Prediction
from omd.agents.objectives.objective import AgentState, Context, Objective, diagnostics
from omd.types import Metrics, PyTree, Transition


class TwoStep(Objective):
    """Model steps on minibatches of their own, then K inner steps, each on a fresh minibatch."""

    @abc.abstractmethod
    def fit(
        self,
        theta: PyTree,
        window: list[Transition],
        key: Array,
        state: AgentState,
        context: Context,
    ) -> tuple[Float[Array, ""], Prediction]:
        """The loss that θ minimises on a minibatch, and the prediction there. `window` holds
        the minibatch's transitions and those that follow them, `self.window` in all; `key` draws
        the model's samples; `state` is that before the update, `context` has values, policy and
        targets."""

    @property
    def minibatches(self) -> int:
        """One for each model step and one for each inner step."""
        return self.settings.model_steps + self.settings.inner_steps

    def update(
        self, state: AgentState, batches: list[Transition], context: Context
    ) -> tuple[AgentState, Metrics]:
        """`model_steps` Adam steps of θ on what `fit` gives, then K steps of the learner."""
        count, key = self.settings.model_steps, context.key
        stochastic = context.model.stochastic
        size = self.window
        windows = [batches[i : i + size] for i in range(0, len(batches), size)]
        batches = [window[0] for window in windows]
        keys = jax.random.split(key, self.minibatches) if stochastic else [key] * len(batches)
        for window, k in zip(windows[:count], keys, strict=False):
            (loss, prediction), gradient = jax.value_and_grad(self.fit, has_aux=True)(
                state.theta, window, k, state, context
            )
            state = context.descend(state, gradient)
        fitted = window[0]

        def inner_step(learner, batch, key, inner_key):
            made = context.predict(state.theta, batch, key)
            y = context.targets(learner, made.reward, made.sample, batch, inner_key)
            return context.learner.step(learner, y, batch, context.hyper, inner_key)

        learner, info = context.inner_loop(
            inner_step, state.learner, batches[count:], keys[count:], self.inner_keys(key)
        )
        return state._replace(learner=learner), diagnostics(
            loss, gradient, prediction, fitted, info
        )


class Fitted(TwoStep):
    """A two-step objective whose loss needs no more than the model's prediction of a minibatch."""

    @abc.abstractmethod
    def loss(
        self, prediction: Prediction, batch: Transition, state: AgentState, context: Context
    ) -> Float[Array, ""]:
        """What θ minimises, on one minibatch. `prediction` is the model's, differentiable in θ;
        `state` is that before the update, `context` has values, policy and targets."""

    def fit(
        self,
        theta: PyTree,
        window: list[Transition],
        key: Array,
        state: AgentState,
        context: Context,
    ) -> tuple[Float[Array, ""], Prediction]:
        """`loss` of the model's prediction of the minibatch, and that prediction."""
        prediction = context.predict(theta, window[0], key)
        return self.loss(prediction, window[0], state, context), prediction
