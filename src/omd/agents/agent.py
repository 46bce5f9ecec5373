"""Agent = model × learner × objective: the one place where inner and outer loop meet."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from omd.agents import rollouts
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
        setup = self.objective.setup
        kept: PyTree = ()
        if setup.settings.rollout:
            kept = rollouts.init(jax.random.fold_in(key, 3), context, setup.spec, setup.settings)
        return AgentState(
            *self.objective.init_model(keys[0], context),
            self.learner.init(keys[1], h),
            self.objective.init_constants(keys[2], context),
            kept,
        )

    def act(
        self, state: AgentState, observation: Float[Array, " obs"], noise: PyTree, h: Hyper
    ) -> Array:
        """The acting policy's action, with exploration."""
        return self.learner.act(state.learner, observation, noise, h)

    def update(
        self, state: AgentState, batches: list[Transition], key: Array, h: Hyper
    ) -> tuple[AgentState, Metrics]:
        """`updates` times one outer step and K inner steps; metrics are the mean over these.

        `batches` holds `minibatches` of them, each with the transitions of the objective's window.
        """
        if self.updates == 1:
            return self._update(state, batches, key, h)
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *batches)
        each = len(batches) // self.updates
        grouped = jax.tree.map(lambda x: x.reshape(self.updates, each, *x.shape[1:]), stacked)

        def one(state, turn):
            group, key = turn
            mine = [jax.tree.map(lambda x, i=i: x[i], group) for i in range(each)]
            return self._update(state, mine, key, h)

        state, infos = jax.lax.scan(one, state, (grouped, jax.random.split(key, self.updates)))
        return state, jax.tree.map(lambda x: jnp.mean(x, axis=0), infos)

    def _update(
        self, state: AgentState, batches: list[Transition], key: Array, h: Hyper
    ) -> tuple[AgentState, Metrics]:
        theta = self.model.observe(state.theta, batches[0], h.learning_rate)
        return self.objective.update(state._replace(theta=theta), batches, self.context(key, h))

    @property
    def updates(self) -> int:
        """Updates for each environment step."""
        return self.objective.settings.updates

    @property
    def minibatches(self) -> int:
        """Minibatches that an environment step's updates take."""
        return self.updates * self.objective.minibatches


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
