"""Agent = model × learner × objective: the one place where inner and outer loop meet."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from omd import implicit
from omd.agents.learners.learner import Hyper, Learner
from omd.agents.learners.sac import Sac
from omd.agents.learners.soft_q import SoftQ
from omd.agents.models.model import Model
from omd.agents.objectives import OBJECTIVES, AgentState, Objective
from omd.config import Config
from omd.types import EnvSpec, Metrics, PyTree, Transition

__all__ = ["Agent", "AgentState", "Hyper", "build", "hyper"]


@dataclasses.dataclass(frozen=True)
class Agent:
    """Pure functions of one lane; vmap them, or map over lanes, as you like."""

    model: Model
    learner: Learner
    objective: Objective

    def init(self, key: Array, h: Hyper) -> AgentState:
        keys = jax.random.split(key, 3)
        return AgentState(
            *self.objective.init_model(keys[0], h),
            self.learner.init(keys[1], h),
            self.objective.init_constants(keys[2]),
        )

    def act(
        self, state: AgentState, observation: Float[Array, " obs"], noise: PyTree, h: Hyper
    ) -> Array:
        return self.learner.act(state.learner, observation, noise, h)

    def update(
        self, state: AgentState, batches: list[Transition], key: Array, h: Hyper
    ) -> tuple[AgentState, Metrics]:
        """One outer step and K inner steps; `batches` holds `objective.minibatches` of them."""
        return self.objective.update(state, batches, key, h)


def build(config: Config, spec: EnvSpec, padded: int | None = None) -> Agent:
    """The agent that a configuration describes, for an environment.

    `padded` is the width to which the model's hidden layers are padded, so that lanes with models
    of several widths share a program. Raises `InputError` where the learner that the configuration
    names can't take the environment's actions.
    """
    config = config.resolved(continuous=spec.num_actions is None)
    dtype: Any = jnp.dtype(config.precision)
    model = Model(
        spec,
        config.model_hidden,
        padded or config.model_hidden,
        config.model == "gaussian",
        config.reward == "learned",
        config.model_network == "joint",
        config.model_output == "change",
        dtype,
    )
    parts = (spec, config.hidden, config.critics, dtype)
    learner: Learner
    if config.learner == "sac":
        learner = Sac(*parts)
    else:
        learner = SoftQ(*parts, hard=config.operator == "hard")
    reset = config.inner_optimizer == "reset" or (
        config.inner_optimizer == "auto" and (config.objective, config.learner) == ("omd", "soft-q")
    )
    method = implicit.get(config.hypergradient)
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
    """The lane's settings as scalars of the run's precision, from a resolved configuration."""
    return Hyper(*(jnp.asarray(getattr(config, f), config.precision) for f in Hyper._fields))
