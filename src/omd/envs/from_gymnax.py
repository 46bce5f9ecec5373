"""JAX environments of gymnax."""

from __future__ import annotations

import ast
import importlib.util
import pathlib
import re
import sys
import types
from typing import Any

from omd.envs.jax_env import failed


def ids() -> list[str]:
    """Ids that gymnax knows, those registered at run time included.

    As long as nobody has imported gymnax, and hence nobody can have registered anything, its own
    list is read from its source.
    """
    if "gymnax" not in sys.modules:
        package = importlib.util.find_spec("gymnax")
        for folder in (package.submodule_search_locations or ()) if package else ():
            source = pathlib.Path(folder, "registration.py").read_text(encoding="utf-8")
            if listed := re.search(
                r"^_BUILTIN_ENV_IDS = (\[.*?\])", source, re.DOTALL | re.MULTILINE
            ):
                return list(ast.literal_eval(listed[1]))
    return list(_gymnax().registered_envs)


class _Later(types.ModuleType):
    """A module that is imported when something of it is first used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def _gymnax() -> types.ModuleType:
    """gymnax, imported without the plotting libraries that only its `render` uses: they bring
    SciPy's statistics along and take longer than all the rest, JAX included."""
    absent = [_Later(name) for name in ("matplotlib.pyplot", "seaborn") if name not in sys.modules]
    sys.modules.update({module.__name__: module for module in absent})
    try:
        return importlib.import_module("gymnax")
    finally:
        for module in absent:
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]


def load(id: str, name: str) -> tuple[Any, Any]:
    """Environment and parameters for `JaxEnv`; raises `InputError` where gymnax fails to build it.

    `name` is gymnax' id, `id` what the user wrote.
    """
    try:
        return _gymnax().make(name)
    except Exception as error:
        raise failed(id, error) from error
