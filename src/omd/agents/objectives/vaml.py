"""(m, b)-value-aware model learning: values after m model steps against b Bellman backups."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from omd.agents.models.model import Prediction
from omd.agents.objectives.fitted import TwoStep
from omd.agents.objectives.objective import AgentState, Context
from omd.errors import InputError
from omd.parts import setting
from omd.settings import Settings
from omd.types import PyTree, Transition


class Vaml(TwoStep):
    """E[(V(ŝ₍ₘ₎) − TᵇV(s₍ₘ₎))²] plus the squared reward errors of the m steps, V the target
    network's, the backup along the data and a constant. b = 0 is IterVAML, b ≥ 1 MuZero's value
    loss.

    With a stochastic model and k samples the squared difference of means also holds Var/k of the
    model's values, which favours models without spread; `calibrated` subtracts its unbiased
    estimate s²/k. Entries of the minibatch whose m + b transitions cross an episode's end don't
    count.

    Sources: Farahmand, "Iterative value-aware model learning" (2018); Voelcker et al., "Calibrated
    value-aware model learning with probabilistic environment models" (2025).
    """

    steps: int = setting(1, "m, steps of the model, along the data's actions.", low=1, high=1000)
    backups: int = setting(0, "b, Bellman backups of the target, along the data.", low=0, high=1000)
    samples: int = setting(
        1, "k, states that a stochastic model draws for each entry.", low=1, high=1000
    )
    calibrated: bool = setting(False, "Subtract s²/k, the share of the model's own spread.")

    @property
    def window(self) -> int:
        """m + b transitions in a row."""
        return self.steps + self.backups

    def check(self, settings: Settings) -> None:
        """Raises `InputError` where the samples don't go with the model, or each other."""
        super().check(settings)
        if self.samples > 1 and not settings.model.stochastic:
            raise InputError(
                f"samples of objective 'vaml' is {self.samples}, but the model predicts one state: "
                "give model 'gaussian', or samples 1"
            )
        if self.calibrated and self.samples < 2:
            raise InputError(
                "objective 'vaml' is calibrated with 1 sample, which has no spread: give samples 2 "
                "or more, and model 'gaussian'"
            )

    def fit(
        self,
        theta: PyTree,
        window: list[Transition],
        key: Array,
        state: AgentState,
        context: Context,
    ) -> tuple[Float[Array, ""], Prediction]:
        """The loss on a window of m + b transitions, and the model's first prediction."""
        counts = continuing(window)
        keys = jax.random.split(key, self.samples)
        values, rewards, prediction = [], [], None
        for one in keys if context.model.stochastic else [key]:
            value, error, first = self._rollout(theta, window, one, state, context)
            values.append(value)
            rewards.append(error)
            prediction = prediction or first
        target = jax.lax.stop_gradient(self.target(window, state, context))
        errors = jnp.square(jnp.mean(jnp.stack(values), axis=0) - target)
        if self.calibrated:
            errors = errors - jnp.var(jnp.stack(values), axis=0, ddof=1) / self.samples
        if context.model.learned_reward:
            errors = errors + jnp.mean(jnp.stack(rewards), axis=0)
        assert prediction is not None
        return jnp.sum(jnp.where(counts, errors, 0)) / jnp.maximum(jnp.sum(counts), 1), prediction

    def _rollout(
        self,
        theta: PyTree,
        window: list[Transition],
        key: Array,
        state: AgentState,
        context: Context,
    ) -> tuple[Float[Array, " batch"], Float[Array, " batch"], Prediction]:
        """V after m model steps, the mean squared reward error on the way, the first prediction."""
        observation, errors, first = window[0].observation, [], None
        for step, transition in enumerate(window[: self.steps]):
            at = key if step == 0 else jax.random.fold_in(key, step)
            prediction = context.predict(theta, transition._replace(observation=observation), at)
            errors.append(jnp.square(prediction.reward - transition.reward))
            observation, first = prediction.sample, first or prediction
        assert first is not None
        value = context.value(state.learner, observation)
        return value, jnp.mean(jnp.stack(errors), axis=0), first

    def target(
        self, window: list[Transition], state: AgentState, context: Context
    ) -> Float[Array, " batch"]:
        """TᵇV at the true state after m steps."""
        value = context.value(state.learner, window[-1].next_observation)
        for transition in reversed(window[self.steps :]):
            going_on = jnp.where(transition.terminated, 0, context.hyper.discount)
            value = transition.reward + going_on * value
        return value


def continuing(window: list[Transition]) -> Bool[Array, " batch"]:
    """Which entries' transitions follow each other: no episode ends between the first and the last,
    by termination or by a time limit."""
    found = jnp.ones(window[0].reward.shape, bool)
    for one, following in itertools.pairwise(window):
        same = jnp.all(one.next_observation == following.observation, axis=1)
        found = found & same & ~one.terminated
    return found
