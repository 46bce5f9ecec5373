"""Agent = model × learner × objective: the one place where inner and outer loop meet."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from omd import implicit
from omd.agents.model import Model
from omd.agents.objectives import OBJECTIVES, AgentState, Objective
from omd.agents.soft_q import Hyper, Noise, SoftQ
from omd.config import Config
from omd.types import EnvSpec, Metrics, Transition

__all__ = ["Agent", "AgentState", "Hyper", "Noise", "build", "hyper"]


@dataclasses.dataclass(frozen=True)
class Agent:
    """Pure functions of one lane; vmap them, or map over lanes, as you like."""

    model: Model
    learner: SoftQ
    objective: Objective

    def init(self, key: Array) -> AgentState:
        keys = jax.random.split(key, 3)
        theta = self.model.init(keys[0])
        return AgentState(
            theta,
            self.objective.optimizer(_ZERO).init(theta),
            self.learner.init(keys[1]),
            self.objective.init_constants(keys[2]),
        )

    def act(
        self, state: AgentState, observation: Float[Array, " obs"], noise: Noise, h: Hyper
    ) -> Int[Array, ""]:
        return self.learner.act(state.learner.w, observation, noise, h.temperature, h.epsilon)

    def update(
        self, state: AgentState, batches: list[Transition], key: Array, h: Hyper
    ) -> tuple[AgentState, Metrics]:
        """One outer step and K inner steps; `batches` holds `objective.minibatches` of them."""
        return self.objective.update(state, batches, key, h)


_ZERO = Hyper(*[0.0] * len(Hyper._fields))  # type: ignore[arg-type]


def build(config: Config, spec: EnvSpec, padded: int | None = None) -> Agent:
    """The agent that a configuration describes, for an environment.

    `padded` is the width to which the model's hidden layers are padded, so that lanes with models
    of several widths share a program. Raises `InputError` where actions are continuous.
    """
    dtype: Any = jnp.dtype(config.precision)
    model = Model(
        spec,
        config.model_hidden,
        padded or config.model_hidden,
        config.model == "gaussian",
        config.reward == "learned",
        dtype,
    )
    learner = SoftQ(spec, config.hidden, config.critics, config.operator == "hard", dtype)
    learner.actions  # noqa: B018 - raises where they are continuous
    reset = config.inner_optimizer == "reset" or (
        config.inner_optimizer == "auto" and config.objective == "omd"
    )
    method = implicit.get(config.hypergradient)
    assert isinstance(method, implicit.AbstractMethod)
    objective = OBJECTIVES[config.objective](
        model,
        learner,
        inner_steps=config.inner_steps,
        model_steps=config.model_steps,
        reset_moments=reset,
        cold_start=config.start == "cold",
        constraint_target=config.constraint_target,
        fresh_outer_batch=config.outer_batch == "fresh",
        method=method,
        vep_values=config.vep_values,
    )
    return Agent(model, learner, objective)


def hyper(config: Config) -> Hyper:
    """The lane's settings as scalars of the run's precision."""
    return Hyper(*(jnp.asarray(getattr(config, f), config.precision) for f in Hyper._fields))
