"""A grid's race: all settings on a few seeds, the best few on more, the best on the report's.

    [[grid]]
    objective = ["omd", "mle"]
    model_hidden = [1, 3]
    inner_learning_rate = [3e-4, 1e-3, 3e-3]
    tau = [0.005, 0.01]
    seeds = 50                                  # of the report
    race = { over = ["inner_learning_rate", "tau"], first = 5, keep = 2, more = 10 }

Appendix D takes the best of its settings at each point of a figure. Here the seeds that choose are
apart from those that are shown, so the choice doesn't favour what is shown. Imports no JAX.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from omd.config import MOST_SEEDS
from omd.errors import InputError, closest
from omd.runs import stored
from omd.settings import Settings

CHOICE_SEEDS = MOST_SEEDS
"""The first of the seeds that choose: more than any count of seeds reaches."""
REPORT, CHOICE = "report", "choice"
"""What a lane is for."""


class Race(NamedTuple):
    """What a race is asked to do at each point."""

    over: tuple[str, ...]
    """The settings that it chooses."""
    first: int
    """Seeds on which all values of these run."""
    keep: int
    """How many of them go on."""
    more: int
    """Seeds on which those run as well."""


class Point(NamedTuple):
    """One point of a grid: the values of all settings but those that its race is over."""

    race: Race
    candidates: tuple[Settings, ...]
    """One for each value of the settings raced over, each with all seeds of the report."""

    def wanted(self, returns: Mapping[Settings, float]) -> list[Settings]:
        """The lanes that are needed as far as the final returns of finished lanes say."""
        first = [one for c in self.candidates for one in _choosing(c, 0, self.race.first)]
        if any(lane not in returns for lane in first):
            return first
        kept = self._best(self.candidates, self.race.first, returns)[: self.race.keep]
        last = self.race.first + self.race.more
        more = [one for c in kept for one in _choosing(c, self.race.first, last)]
        if any(lane not in returns for lane in more):
            return [*first, *more]
        best = self._best(kept, last, returns)[0]
        return [*first, *more, *_report(best)]

    @staticmethod
    def _best(
        candidates: Iterable[Settings], seeds: int, returns: Mapping[Settings, float]
    ) -> list[Settings]:
        """By their mean final return on the first seeds, the best first; the earlier of two that
        tie. A lane without a number is worse than any other."""

        def score(candidate: Settings) -> float:
            values = [returns[lane] for lane in _choosing(candidate, 0, seeds)]
            return -math.inf if any(map(math.isnan, values)) else sum(values) / len(values)

        return sorted(candidates, key=score, reverse=True)

    def stages(self) -> tuple[list[Settings], list[Settings], list[Settings]]:
        """The lanes of each stage, as many as there will be; the first settings stand for those
        that will be chosen."""
        race, kept = self.race, self.candidates[: self.race.keep]
        return (
            [one for c in self.candidates for one in _choosing(c, 0, race.first)],
            [one for c in kept for one in _choosing(c, race.first, race.first + race.more)],
            _report(self.candidates[0]),
        )


def _choosing(candidate: Settings, begin: int, end: int) -> list[Settings]:
    return [dataclasses.replace(candidate, seeds=(CHOICE_SEEDS + n,)) for n in range(begin, end)]


def _report(candidate: Settings) -> list[Settings]:
    return [dataclasses.replace(candidate, seeds=(seed,)) for seed in candidate.seed_list]


def read(values: Any, axes: Mapping[str, Sequence[Any]]) -> Race:
    """The race of a grid with these axes; raises `InputError` for one that can't work."""
    if not isinstance(values, Mapping):
        raise InputError(f"race is {values!r}: write it as {{ over = ['tau'], first = 5, … }}")
    for name in values:
        closest("setting of a race", name, Race._fields)
    if absent := [name for name in Race._fields if name not in values]:
        raise InputError(f"the race has no {absent[0]}: give {', '.join(Race._fields)}")
    over = values["over"]
    over = (over,) if isinstance(over, str) else tuple(over) if isinstance(over, list) else over
    if not isinstance(over, tuple) or not over or not all(isinstance(n, str) for n in over):
        raise InputError(f"over of the race is {over!r}: name one or more axes of the grid")
    for name in over:
        if name not in axes or name in ("seeds", "env", "objective"):
            known = ", ".join(n for n in axes if n not in ("seeds", "env", "objective"))
            raise InputError(
                f"over of the race names {name!r}: give axes of its grid other than env, objective "
                f"and seeds (there are {known or 'none'})"
            )
    settings = math.prod(len(axes[name]) for name in over)
    if settings < 2:
        raise InputError(
            f"the race over {', '.join(over)} has one setting only: give two values or more"
        )
    for name, low in (("first", 1), ("keep", 1), ("more", 1)):
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise InputError(f"{name} of the race is {value!r}: give a whole number, {low} or more")
    if not 2 <= values["keep"] <= settings:
        raise InputError(
            f"keep of the race is {values['keep']}: give 2 to {settings}, all of its settings"
        )
    return Race(over, values["first"], values["keep"], values["more"])


def points(race: Race, found: Iterable[Settings]) -> tuple[Point, ...]:
    """The points of a raced grid, from the settings of all its combinations."""
    apart: dict[tuple[Any, ...], dict[Settings, None]] = {}
    for settings in found:
        if max(settings.seed_list) >= CHOICE_SEEDS:
            raise InputError(
                f"seeds of a raced grid are {settings.seed_list!r}: give seeds below "
                f"{CHOICE_SEEDS:,}; those from there on choose the settings"
            )
        values = settings.to_dict()
        key = tuple(str(v) for name, v in values.items() if name not in race.over)
        apart.setdefault(key, {})[settings] = None
    return tuple(Point(race, tuple(one)) for one in apart.values())


def missing(
    all_points: Iterable[Point], lanes: Iterable[Settings], returns: Mapping[Settings, float]
) -> list[Settings]:
    """The lanes that the races need next and that are not among `lanes`."""
    there = set(lanes)
    wanted = dict.fromkeys(one for point in all_points for one in point.wanted(returns))
    return [one for one in wanted if one not in there]


def choosing(all_points: Iterable[Point]) -> set[Settings]:
    """All lanes that choose settings, and aren't for the report."""
    found: set[Settings] = set()
    for point in all_points:
        last = point.race.first + point.race.more
        found.update(one for c in point.candidates for one in _choosing(c, 0, last))
    return found


def expected(all_points: Iterable[Point], lanes: Iterable[Settings]) -> list[Settings]:
    """As many lanes as there will be in the end, to count their cost; see `Point.stages`."""
    every = [one for point in all_points for stage in point.stages() for one in stage]
    return list(dict.fromkeys([*lanes, *every]))


def budget(all_points: Sequence[Point]) -> str:
    """A sentence: how many lanes and steps the stages of the races take."""
    stages: list[list[Settings]] = [[], [], []]
    for point in all_points:
        for mine, more in zip(stages, point.stages(), strict=True):
            mine += more
    counts = [len(stage) for stage in stages]
    total = sum(lane.steps for stage in stages for lane in stage)
    tried = sum(len(point.candidates) for point in all_points)
    return (
        f"race at {len(all_points)} point{'s' * (len(all_points) > 1)}: "
        f"{counts[0]:,} lanes try {tried:,} settings, "
        f"{counts[1]:,} try the best of them on more seeds, {counts[2]:,} are the report's; "
        f"{sum(counts):,} lanes and {total:,} lane-steps in all"
    )


def to_json(all_points: Iterable[Point]) -> list[dict[str, Any]]:
    """Points as plain values."""
    return [
        {
            "race": {**point.race._asdict(), "over": list(point.race.over)},
            "candidates": [stored.to_json(one) for one in point.candidates],
        }
        for point in all_points
    ]


def from_json(values: Iterable[Mapping[str, Any]]) -> tuple[Point, ...]:
    """The counterpart of `to_json`."""
    return tuple(
        Point(
            Race(**{**one["race"], "over": tuple(one["race"]["over"])}),
            tuple(map(stored.from_json, one["candidates"])),
        )
        for one in values
    )
