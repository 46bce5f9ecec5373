"""The state inside a MuJoCo simulator."""

from __future__ import annotations

import logging
import sys
from typing import Any

import numpy as np
from jaxtyping import Float, UInt64

WORDS = 6
"""64-bit words of a generator's state: state and increment of PCG64, and its spare half word."""


class Physics:
    """What goes on inside one of Gymnasium's own MuJoCo environments.

    The state of a simulator is the one *before* the last step together with that step's action:
    what MuJoCo derives from a state on the way (positions of bodies, contact forces) is part of
    some observations and of the next reward, and only the step itself brings it back.
    """

    def __init__(self, env: Any) -> None:
        import mujoco

        self._mujoco, self._env = mujoco, env
        base = env.unwrapped
        self._kind = mujoco.mjtState.mjSTATE_INTEGRATION
        self.before = np.zeros(mujoco.mj_stateSize(base.model, self._kind))
        """Integration state [n], in MuJoCo's order, from which the last step set out."""
        kinds = mujoco.mjtWarning
        bad = (kinds.mjWARN_BADQPOS, kinds.mjWARN_BADQVEL, kinds.mjWARN_BADQACC)
        self._warnings = [base.data.warning[int(kind)] for kind in bad]
        self.fatal = mujoco.FatalError

    @classmethod
    def of(cls, env: Any) -> Physics | None:
        """None where an environment may keep state that isn't known here: a user's own class, or
        one in a wrapper that Gymnasium doesn't put around its own."""
        mujoco_env = sys.modules.get("gymnasium.envs.mujoco.mujoco_env")
        base = env.unwrapped
        if mujoco_env is None or not isinstance(base, mujoco_env.MujocoEnv):
            return None
        ours = type(base).__module__.startswith("gymnasium.envs.mujoco.")
        plain = {"TimeLimit", "OrderEnforcing", "PassiveEnvChecker"}
        generator = base.np_random.bit_generator.state["bit_generator"]
        known = all(type(wrapper).__name__ in plain for wrapper in _wrappers(env))
        return cls(env) if ours and known and generator == "PCG64" else None

    def note(self) -> None:
        """Keep the state from which the next step sets out."""
        base = self._env.unwrapped
        self._mujoco.mj_getState(base.model, base.data, self.before, self._kind)

    @property
    def unstable(self) -> bool:
        """Whether MuJoCo found numbers that make no sense in this episode, and started over from
        its resting state in the middle of a step, which is what it does by default."""
        return any(warning.number for warning in self._warnings)

    def put(self, before: Float[np.ndarray, " n"], elapsed: int) -> None:
        """Go back to where step number `elapsed` of the episode sets out."""
        base = self._env.unwrapped
        self._mujoco.mj_setState(base.model, base.data, before, self._kind)
        for wrapper in _wrappers(self._env):
            if type(wrapper).__name__ == "TimeLimit":
                wrapper._elapsed_steps = elapsed - 1

    @property
    def random(self) -> UInt64[np.ndarray, " words"]:
        """State of the environment's generator of random numbers."""
        state = self._env.unwrapped.np_random.bit_generator.state
        long = [state["state"]["state"], state["state"]["inc"]]
        halves = [half for number in long for half in (number >> 64, number & (2**64 - 1))]
        return np.array([*halves, state["has_uint32"], state["uinteger"]], np.uint64)

    @random.setter
    def random(self, words: UInt64[np.ndarray, " words"]) -> None:
        a, b, c, d, spare, half = (int(word) for word in words)
        self._env.unwrapped.np_random.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": a << 64 | b, "inc": c << 64 | d},
            "has_uint32": spare,
            "uinteger": half,
        }


def log_warnings() -> None:
    """Send MuJoCo's warnings to `logging` rather than to the terminal and a MUJOCO_LOG.TXT in the
    working folder. Left out are those about Gymnasium's own model files and about instability,
    which is told with its lane, step and action instead. A handler that is set already stays."""
    try:
        import mujoco
    except ImportError:  # Gymnasium tells that when it builds the environment
        return
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_log)


def _log(message: str) -> None:
    if "is deprecated" not in message and "is unstable" not in message:
        logging.getLogger(__name__).warning("MuJoCo: %s", message)


def _wrappers(env: Any) -> list[Any]:
    found = []
    while env is not env.unwrapped:
        found.append(env)
        env = env.env
    return found
