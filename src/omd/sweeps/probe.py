"""What an agent must know of an environment, found out without starting JAX: on an accelerator the
driver of a sweep must leave the memory to its workers."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import tempfile
from typing import Any

from omd.config import Config
from omd.envs import host
from omd.errors import InputError
from omd.types import EnvSpec

PROBE = """
import dataclasses, json, sys
from omd import envs
from omd.errors import InputError
env, arguments, out = json.loads(sys.argv[1])
try:
    found = {"spec": dataclasses.asdict(envs.make(env, lanes=1, arguments=arguments).spec)}
except InputError as error:
    found = {"error": str(error)}
with open(out, "w", encoding="utf-8") as file:
    json.dump(found, file)
"""


def spec_of(config: Config) -> EnvSpec:
    """What the environment of a configuration is like; raises `InputError` where it can't be made,
    or is no text, which workers could make again."""
    values = config.to_dict()
    if values["env"].startswith("object of "):
        raise InputError(
            f"env is an {values['env']}: a sweep's workers make it again, so give its class, or a "
            "function in a module that makes it"
        )
    return _probed(values["env"], json.dumps(values["env_args"]))


@functools.cache
def _probed(env: str, arguments: str) -> EnvSpec:
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "spec.json")
        done = subprocess.run(
            [*host.PYTHON, "-c", PROBE, json.dumps([env, json.loads(arguments), out])],
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, **host.variables(), "JAX_PLATFORMS": "cpu"},
        )
        if not os.path.exists(out):
            words = done.stderr.strip().splitlines() or ["its process ended by itself"]
            raise InputError(f"environment {env!r} can't be made: {words[-1]}")
        with open(out, encoding="utf-8") as file:
            found = json.load(file)
    if "error" in found:
        raise InputError(found["error"])
    fields = {f.name for f in dataclasses.fields(EnvSpec)}
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in found["spec"].items()
    }
    return EnvSpec(**{k: v for k, v in values.items() if k in fields})
