"""JAX environments of gymnax."""

from __future__ import annotations

import dataclasses
import importlib
import sys
import types
from collections.abc import Mapping
from typing import Any

from omd.envs.jax_env import failed
from omd.errors import closest

PLOTTING = ("matplotlib.pyplot", "seaborn")
"""What modules of gymnax import for pictures, which nobody draws here."""


class _Late(types.ModuleType):
    """A module that is imported when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks, which uses nothing
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


def library() -> Any:
    """gymnax, imported without its libraries for plotting: they take three times as long as the
    rest of it."""
    if "gymnax" not in sys.modules:
        absent = {name: _Late(name) for name in PLOTTING if name not in sys.modules}
        sys.modules.update(absent)
        try:
            import gymnax  # noqa: F401
        finally:
            for name in absent:
                sys.modules.pop(name, None)
    return importlib.import_module("gymnax")


def ids() -> list[str]:
    """Ids that gymnax knows, those registered at run time included."""
    return list(library().registered_envs)


def load(id: str, name: str, arguments: Mapping[str, Any]) -> tuple[Any, Any]:
    """Environment and parameters for `JaxEnv`; raises `InputError` where gymnax fails to build it.

    `name` is gymnax' id, `id` what the user wrote. Arguments that are fields of the environment's
    parameters replace them, the others go to its constructor.
    """
    gymnax = library()
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
