"""JAX environments of gymnax."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from omd.envs.jax_env import failed
from omd.errors import closest


def ids() -> list[str]:
    """Ids that gymnax knows, those registered at run time included."""
    import gymnax

    return list(gymnax.registered_envs)


def load(id: str, name: str, arguments: Mapping[str, Any]) -> tuple[Any, Any]:
    """Environment and parameters for `JaxEnv`; raises `InputError` where gymnax fails to build it.

    `name` is gymnax' id, `id` what the user wrote. Arguments that are fields of the environment's
    parameters replace them, the others go to its constructor.
    """
    import gymnax

    fields: set[str] = set()
    own: dict[str, Any] = {}
    try:
        fields = {field.name for field in dataclasses.fields(gymnax.make(name)[1])}
        own = {k: v for k, v in arguments.items() if k not in fields}
        env, params = gymnax.make(name, **own)
        return env, params.replace(**{k: v for k, v in arguments.items() if k in fields})
    except TypeError as error:
        for key in own:
            closest(f"argument of environment {id!r}", key, fields)
        raise failed(id, error) from error
    except Exception as error:
        raise failed(id, error) from error
