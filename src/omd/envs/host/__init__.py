"""Gymnasium environments on the host: stepped in this process or on all cores, saved, restored.

Imports no JAX, so that a worker process starts fast and stays small.
"""

from omd.envs.host.in_process import Lanes
from omd.envs.host.processes import PYTHON, Crew, variables, workers_for
from omd.envs.host.simulator import Divergence, build, observation_size, release
from omd.envs.spaces import action_fields

__all__ = [
    "PYTHON",
    "Crew",
    "Divergence",
    "Lanes",
    "action_fields",
    "build",
    "observation_size",
    "release",
    "variables",
    "workers_for",
]
