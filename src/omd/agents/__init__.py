"""Agents: model × learner × objective.

Who writes a part of their own finds all that it needs here: the base classes `Objective` (or
`Fitted`, for objectives that fit the model first), `Learner`, `Model` and `Optimizer`, `setting` to
declare what can be set, `networks`, and the records that go between parts.
"""

from omd.agents import networks
from omd.agents.agent import Agent, build, hyper
from omd.agents.diagnosis import diagnose
from omd.agents.health import signs
from omd.agents.learners.learner import (
    Hyper,
    Learner,
    LearnerState,
    mean_squared,
    moving_average,
    smallest,
)
from omd.agents.models.mlp import Deterministic, Gaussian
from omd.agents.models.model import Model, Prediction, reward_error, squared_error
from omd.agents.objectives.fitted import Fitted, TwoStep
from omd.agents.objectives.objective import AgentState, Context, Objective, diagnostics
from omd.agents.updates import Optimizer
from omd.parts import setting
from omd.types import EnvSpec, Metrics, Transition

__all__ = [
    "Agent",
    "AgentState",
    "Context",
    "Deterministic",
    "EnvSpec",
    "Fitted",
    "Gaussian",
    "Hyper",
    "Learner",
    "LearnerState",
    "Metrics",
    "Model",
    "Objective",
    "Optimizer",
    "Prediction",
    "Transition",
    "TwoStep",
    "build",
    "diagnose",
    "diagnostics",
    "hyper",
    "mean_squared",
    "moving_average",
    "networks",
    "reward_error",
    "setting",
    "signs",
    "smallest",
    "squared_error",
]
