"""The two-step recipe: fit the model, then train the learner on its transitions."""

from __future__ import annotations

import abc
from typing import ClassVar

import jax
from jaxtyping import Array, Float

from omd.agents import rollouts
from omd.agents.models.model import Prediction
from omd.agents.objectives.objective import AgentState, Context, Objective, diagnostics
from omd.types import Metrics, PyTree, Transition


class TwoStep(Objective):
    """Model steps on minibatches of their own, then K inner steps, each on a fresh minibatch: on
    the model's predictions there, or on its rollouts under the current policy."""

    rolls_out: ClassVar[bool] = True

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
        """One for each model step and one for each inner step; with rollouts, one more of states
        where these begin."""
        settings = self.settings
        return settings.model_steps + settings.inner_steps + (settings.rollout > 0)

    def update(
        self, state: AgentState, batches: list[Transition], context: Context
    ) -> tuple[AgentState, Metrics]:
        """`model_steps` Adam steps of θ on what `fit` gives, then K steps of the learner."""
        settings = self.settings
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

        end, inner_keys = count + settings.inner_steps, self.inner_keys(key)
        if settings.rollout:
            kept, more = rollouts.after(
                state.rollouts, state.theta, state.learner, batches[end], context, settings
            )
            drawn = [
                rollouts.mixed(kept, batch, settings.real_share, k)
                for batch, k in zip(batches[count:end], self.mixing_keys(key), strict=True)
            ]
            state = state._replace(rollouts=kept)
            learner, info = context.inner_loop(
                context.step_as_stored, state.learner, drawn, inner_keys
            )
            info |= more
        else:
            learner, info = context.inner_loop(
                inner_step, state.learner, batches[count:end], keys[count:end], inner_keys
            )
        return state._replace(learner=learner), diagnostics(
            loss, gradient, prediction, fitted, info
        )

    def mixing_keys(self, key: Array) -> Array:
        """One key for each inner step's draw from the model buffer, from the update's."""
        return jax.random.split(jax.random.fold_in(key, 5), self.settings.inner_steps)


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
