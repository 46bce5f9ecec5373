"""Environments by their ids, batched over lanes, same protocol for JAX and host environments.

env = omd.envs.make("CartPole-v1", lanes=10, distractors=16)
state, observation = env.reset(keys)                # keys [L], observation [L, obs]
state, step = env.step(state, action, keys)         # action int [L] or float [L, act]

Names are imported when they are first used: the processes that step host environments
(`omd.envs.host`) don't load JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omd.envs.distractors import DistractedEnv, noise
    from omd.envs.from_gymnasium import GymnasiumEnv
    from omd.envs.host_call import host_errors
    from omd.envs.jax_env import JaxEnv
    from omd.envs.lookup import available, make, on_host, resolve
    from omd.envs.protocol import Draw, Env

_HOMES = {
    "DistractedEnv": "distractors",
    "Draw": "protocol",
    "Env": "protocol",
    "GymnasiumEnv": "from_gymnasium",
    "JaxEnv": "jax_env",
    "available": "lookup",
    "host_errors": "host_call",
    "make": "lookup",
    "noise": "distractors",
    "on_host": "lookup",
    "resolve": "lookup",
}
__all__ = [
    "DistractedEnv",
    "Draw",
    "Env",
    "GymnasiumEnv",
    "JaxEnv",
    "available",
    "host_errors",
    "make",
    "noise",
    "on_host",
    "resolve",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"omd.envs.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'omd.envs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
