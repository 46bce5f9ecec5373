"""What a sweep runs: grids over any settings, read from a TOML file, a shipped name or options.

    about = "OMD and MLE with small models"      # optional
    [base]                                       # settings that all points share
    steps = 50_000
    seeds = 5
    [[grid]]                                     # every combination of the lists' values
    objective = ["omd", "mle"]
    model_hidden = [1, 3]

A grid may choose some of its settings by a race; see `race`. Imports no JAX.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.resources
import itertools
import math
import numbers
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from omd import memory, parts
from omd.config import SETTINGS, Config
from omd.errors import InputError, closest
from omd.runs import stored
from omd.settings import Settings, resolve
from omd.sweeps import race
from omd.sweeps.probe import spec_of

TABLES = ("about", "base", "grid")
MOST_LANES = 100_000
LANE_BYTES = 2_000
"""Of a lane's settings in Python, about."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """A named list of lanes: each the settings of one seed."""

    name: str
    about: str
    lanes: tuple[Settings, ...]
    """Of raced grids those of the first stage."""
    points: tuple[race.Point, ...] = ()
    """Of raced grids."""


def shipped() -> list[str]:
    """Names of the sweeps that come with the package."""
    return sorted(f.name.removesuffix(".toml") for f in _specs().iterdir())


def _specs():
    return importlib.resources.files(__package__) / "specs"


def read(
    source: str | os.PathLike | Mapping[str, Any] | None,
    options: Mapping[str, Sequence[Any]] | None = None,
) -> Spec:
    """The sweep in a TOML file, by its shipped name, or in a mapping of the same form.

    `options` gives some settings one or more values in place of those in base and grids; without
    a `source` they are the whole sweep. Raises `InputError` for names, values and grids that
    can't work.
    """
    if not isinstance(options, Mapping | None):
        raise InputError(f"options is {options!r}: give lists of values by setting")
    axes: dict[str, list[Any]] = {}
    for option, several in (options or {}).items():
        if isinstance(several, str) or not isinstance(several, Iterable):
            raise InputError(f"options has {several!r} for {option}: give a list of values")
        axes[option] = list(_plain(several))
    if isinstance(source, Mapping):
        return _build("sweep", source, axes)
    if source is None:
        if not axes:
            raise InputError(
                f"no sweep: name one of {', '.join(shipped())}, or a TOML file, or give settings"
            )
        return _build("sweep", {"grid": [{}]}, axes)
    path = parts.path("sweep", source)
    if path.is_dir() and str(source) not in shipped():
        raise InputError(f"{source} is a folder, but no sweep: it has no sweep.json")
    if not path.is_file():
        if path.suffix == ".toml" or len(path.parts) > 1:
            raise InputError(f"sweep file {source} does not exist")
        name = closest("sweep", str(source), shipped())
        text = (importlib.resources.files(__package__) / "specs" / f"{name}.toml").read_text(
            "utf-8"
        )
    else:
        name = path.stem
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeError) as error:
            raise InputError(f"sweep file {source} can't be read: {error}") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"sweep file {source} is not TOML: {error}") from error
    except RecursionError as error:
        raise InputError(f"sweep file {source} is nested too deeply: write plain tables") from error
    return _build(name, values, axes)


def _build(name: str, values: Mapping[str, Any], options: dict[str, list[Any]]) -> Spec:
    if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
        raise InputError(f"the sweep's name is {name!r}: use letters, digits, '.', '_' and '-'")
    for table in values:
        closest("table in a sweep", table, TABLES)
    base, grids = values.get("base", {}), values.get("grid", [])
    if not isinstance(base, Mapping) or not isinstance(grids, Sequence) or isinstance(grids, str):
        raise InputError("a sweep has one table [base] and tables [[grid]]: write them so")
    if not grids:
        raise InputError("the sweep has no grid: give at least one table [[grid]]")
    lanes: dict[Settings, None] = {}
    points: list[race.Point] = []
    count = 0
    for number, grid in enumerate(grids, 1):
        if not isinstance(grid, Mapping):
            raise InputError(f"grid {number} is {grid!r}: write it as a table [[grid]]")
        axes, raced = _axes(number, base, grid, options)
        count += _count(axes, raced)
        if count > MOST_LANES:
            raise InputError(
                f"the sweep has {count:,} lanes up to grid {number}, whose settings alone would "
                f"take {memory.in_words(count * LANE_BYTES)} of memory: give at most "
                f"{MOST_LANES:,}, in several sweeps if need be"
            )
        asked: list[tuple[Config, str]] = []
        for combination in itertools.product(*axes.values()):
            settings = dict(zip(axes, combination, strict=True))
            varied = ", ".join(f"{k} {settings[k]!r}" for k in {**grid, **options} if k in settings)
            with _naming(number, varied):
                asked.append((Config(**settings), varied))
                memory.check(dataclasses.replace(asked[-1][0], seeds=1))
        combinations: list[Settings] = []
        for config, varied in asked:  # their environments take seconds to make
            with _naming(number, varied):
                combinations.append(resolve(config, spec_of(config)))
        if raced is not None:
            points += race.points(raced, combinations)
            continue
        for found in combinations:
            # a point that two grids name is one lane
            lanes |= {dataclasses.replace(found, seeds=(s,)): None for s in found.seed_list}
    lanes |= dict.fromkeys(race.missing(points, lanes, {}))
    return Spec(name, str(values.get("about", "")), tuple(lanes), tuple(points))


@contextlib.contextmanager
def _naming(number: int, varied: str) -> Iterator[None]:
    """Bad input names the grid and the point where it stands."""
    try:
        yield
    except InputError as error:
        raise InputError(f"grid {number}, at {varied or 'defaults'}: {error}") from error


def _count(axes: Mapping[str, Sequence[Any]], raced: race.Race | None) -> int:
    """Lanes of a grid, at most; nothing is built for it."""
    seeds: Any = axes.get("seeds", (1,))[0]
    lanes = int(seeds) if isinstance(seeds, numbers.Integral) else 1
    if isinstance(seeds, Sequence) and not isinstance(seeds, str):
        lanes = len(seeds)
    if raced is not None:
        lanes = max(lanes, raced.first + raced.more)
    return lanes * math.prod(len(values) for name, values in axes.items() if name != "seeds")


def _axes(
    number: int, base: Mapping[str, Any], grid: Mapping[str, Any], options: dict[str, list[Any]]
) -> tuple[dict[str, list[Any]], race.Race | None]:
    """The values of each setting of a grid, and its race."""
    axes: dict[str, list[Any]] = {}
    given = {**base, **grid, **options}
    raced = given.pop("race", None)
    for name, value in given.items():
        closest("setting", name, SETTINGS)
        value = _plain(value)
        if name == "seeds":  # no axis: how many lanes each point has
            if name in options:
                value = value[0] if len(value) == 1 else tuple(value)
            axes[name] = [tuple(value) if isinstance(value, list) else value]
            continue
        axes[name] = list(value) if isinstance(value, list) else [value]
        if not axes[name]:
            raise InputError(f"grid {number} has no value for {name}: give at least one")
    if raced is None:
        return axes, None
    try:
        return axes, race.read(raced, axes)
    except InputError as error:
        raise InputError(f"grid {number}: {error}") from error


def _plain(value: Any) -> Any:
    """NumPy's arrays and pandas' columns as lists."""
    return value.tolist() if hasattr(value, "tolist") else value


def to_json(lanes: Sequence[Settings]) -> dict[str, Any]:
    """Lanes as plain values: what they all share, and what each adds."""
    rows = [stored.to_json(lane) for lane in lanes]
    shared = {k: v for k, v in rows[0].items() if all(row[k] == v for row in rows)}
    shared.pop("seeds", None)
    return {
        "base": shared,
        "lanes": [{k: v for k, v in row.items() if k not in shared} for row in rows],
    }


def from_json(values: Mapping[str, Any]) -> tuple[Settings, ...]:
    """The counterpart of `to_json`."""
    return tuple(stored.from_json({**values["base"], **row}) for row in values["lanes"])
