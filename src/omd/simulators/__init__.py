"""Gymnasium environments on the host: stepped in this process or on all cores, saved, restored.

Imports no JAX, so that a worker process starts fast and stays small.
"""

from omd.simulators.crew import Crew, workers_for
from omd.simulators.lane import Divergence, build, observation_size
from omd.simulators.lanes import Lanes
from omd.simulators.spaces import action_fields

__all__ = [
    "Crew",
    "Divergence",
    "Lanes",
    "action_fields",
    "build",
    "observation_size",
    "workers_for",
]
