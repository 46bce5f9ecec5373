"""Agent = model × learner × objective: the one place where inner and outer loop meet."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from omd.agents.learners.learner import Hyper, Learner
from omd.agents.models.model import Model
from omd.agents.objectives.objective import AgentState, Context, Objective
from omd.agents.setup import Setup
from omd.config import Widths
from omd.implicit import AbstractMethod
from omd.settings import Settings
from omd.types import EnvSpec, Metrics, PyTree, Transition


@dataclasses.dataclass(frozen=True)
class Agent:
    """Pure functions of one lane; vmap them, or map over lanes, as you like."""

    model: Model
    learner: Learner
    objective: Objective
    method: AbstractMethod
    reset_moments: bool

    def context(self, key: Array, h: Hyper) -> Context:
        """What the objective may use in one update."""
        return Context(self.model, self.learner, self.method, h, key, self.reset_moments)

    def init(self, key: Array, h: Hyper) -> AgentState:
        """The state before the first step."""
        keys = jax.random.split(key, 3)
        context = self.context(key, h)
        return AgentState(
            *self.objective.init_model(keys[0], context),
            self.learner.init(keys[1], h),
            self.objective.init_constants(keys[2], context),
        )

    def act(
        self, state: AgentState, observation: Float[Array, " obs"], noise: PyTree, h: Hyper
    ) -> Array:
        """The acting policy's action, with exploration."""
        return self.learner.act(state.learner, observation, noise, h)

    def update(
        self, state: AgentState, batches: list[Transition], key: Array, h: Hyper
    ) -> tuple[AgentState, Metrics]:
        """One outer step and K inner steps; `batches` holds `objective.minibatches` of them."""
        theta = self.model.observe(state.theta, batches[0], h.learning_rate)
        return self.objective.update(state._replace(theta=theta), batches, self.context(key, h))


def build(settings: Settings, spec: EnvSpec, padded: Widths | None = None) -> Agent:
    """The agent of a run: its parts, bound to its settings and its environment.

    `padded` is the width to which the model's hidden layers are padded, so that lanes with models
    of several widths share a program.
    """
    dtype: Any = jnp.dtype(settings.precision)
    setup = Setup(spec, settings, dtype, padded or settings.model_hidden)
    return Agent(
        settings.model.bound(setup),
        settings.learner.bound(setup),
        settings.objective.bound(setup),
        settings.hypergradient,
        settings.resets_moments,
    )


def hyper(settings: Settings) -> Hyper:
    """The lane's settings as scalars of the run's precision."""
    return Hyper(*(jnp.asarray(getattr(settings, f), settings.precision) for f in Hyper._fields))
