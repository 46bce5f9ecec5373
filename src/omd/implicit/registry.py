"""The methods by name, from the catalogue: for command lines and configuration files."""

from __future__ import annotations

import dataclasses
from typing import Any

from omd import catalogue, parts
from omd.errors import closest
from omd.implicit.methods import AbstractMethod


def get(name: str, **settings: Any) -> AbstractMethod:
    """The method called `name`, such as get("cg", damping=1e-3) or get("cg:damping=1e-3,rtol=0.1").

    Raises `InputError` for an unknown name or setting (with the nearest known one) or a bad value.
    """
    method: Any = parts.part_of("hypergradient", name)
    known = [one.name for one in parts.settings_of(method)]
    for setting in settings:
        closest(f"setting of {parts.text_of(type(method))}", setting, known)
    return dataclasses.replace(method, **settings)


def classes() -> dict[str, type[AbstractMethod]]:
    """The class of each method in the catalogue, by name."""
    entries = catalogue.entries("hypergradient").values()
    return {entry.name: parts.named("hypergradient", entry.where) for entry in entries}
