"""Settings in files: written with a version, read back from this version or an older one."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from omd import parts
from omd.config import SETTINGS
from omd.errors import InputError, closest, in_a_line
from omd.runs import files
from omd.settings import Settings

VERSION = 2
"""Of stored settings. 1, without a number: settings of objectives and learners stood beside the
others, and nothing said what an environment was made with."""
CONFIG = "config.json"

MOVED = {
    "start": ("objective", "omd", "start"),
    "constraint_target": ("objective", "omd", "constraint_target"),
    "outer_batch": ("objective", "omd", "outer_batch"),
    "vep_values": ("objective", "vep", "values"),
    "operator": ("learner", "soft-q", "operator"),
}
"""Settings of version 1: the kind and name of the part that has each now, and what it calls it."""


def to_json(settings: Settings) -> dict[str, Any]:
    """Plain values with their version. Raises `InputError` for a part that text can't hold."""
    return {"version": VERSION, **settings.to_dict()}


def from_json(values: Mapping[str, Any]) -> Settings:
    """The counterpart of `to_json`, of this version or an older one.

    Raises `InputError` for names that are no settings, values that can't work, parts that can't be
    imported, and a version that is newer than this program.
    """
    values = dict(values)
    version = values.pop("version", 1)
    if version not in (1, VERSION):
        raise InputError(f"its version is {version!r}, this program reads 1 and {VERSION}")
    if version == 1:
        values = _from_version_1(values)
    if "env" not in values:  # every version wrote it
        raise InputError("it names no environment")
    for name in values:
        closest("setting", name, SETTINGS)
    known: dict[str, Any] = {k: tuple(v) if k == "seeds" else v for k, v in values.items()}
    return Settings(**known)


def read_settings(folder: pathlib.Path) -> Settings:
    """The settings of a run's folder; raises `InputError` if it is none, or can't be read."""
    path = folder / CONFIG
    try:
        there = path.is_file()
    except OSError as error:
        raise InputError(f"{folder} is no run: {in_a_line(error)}") from error
    if not there:
        raise InputError(f"{folder} is no run: it has no {CONFIG}")
    values = files.read_json(path)
    try:
        return from_json(values)
    except (InputError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} can't be used: {error}") from error


def _from_version_1(values: dict[str, Any]) -> dict[str, Any]:
    # what the first files don't name was not yet a choice then
    values = {"learner": "soft-q", "objective": "omd", "model_output": "state", **values}
    for old, (kind, name, new) in MOVED.items():
        if old in values:
            value = values.pop(old)
            if values.get(kind, "").partition(":")[0] == name:
                text = values[kind]
                values[kind] = f"{text}{',' if ':' in text else ':'}{new}={value}"
    learner: Any = parts.part_of("learner", values["learner"])
    objective: Any = parts.part_of("objective", values["objective"])
    usual = {**learner.defaults, **(learner.implicit_defaults if objective.implicit else {})}
    return {**usual, **{k: v for k, v in values.items() if v is not None}}
