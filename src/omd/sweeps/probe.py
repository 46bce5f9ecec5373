"""Which learner an environment's actions call for, found out without starting JAX: on an
accelerator the driver of a sweep must leave the memory to its workers."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

from omd.errors import InputError

PROBE = """
import sys
from omd import envs
from omd.errors import InputError
try:
    print("continuous", envs.make(sys.argv[1], lanes=1).spec.num_actions is None)
except InputError as error:
    print("error", error)
"""


@functools.cache
def continuous(env: str) -> bool:
    """Whether the actions of environment `env` are continuous; raises `InputError` where it can't
    be made."""
    import gymnasium

    # JAX environments of these ids have the actions of their originals
    name = env.removeprefix("gymnax:").removeprefix("gymnasium:")
    if name in gymnasium.registry:
        try:
            made = gymnasium.make(name, disable_env_checker=True)
            made.close()
            return isinstance(made.action_space, gymnasium.spaces.Box)
        except Exception:  # the probe says what is missing
            pass
    done = subprocess.run(
        [sys.executable, "-c", PROBE, env],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    if done.returncode:
        raise InputError(f"environment {env!r} can't be made: {done.stderr.splitlines()[-1]}")
    kind, _, text = done.stdout.splitlines()[-1].partition(" ")
    if kind == "error":
        raise InputError(text)
    return text == "True"
