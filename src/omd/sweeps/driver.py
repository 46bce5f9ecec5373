"""A sweep from its grid to its results, on one of the engines."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from omd import parts
from omd.errors import InputError, closest
from omd.runs.signals import Stop
from omd.settings import Settings
from omd.sweeps import race, spec
from omd.sweeps.engines import local
from omd.sweeps.plan import Group, Machine
from omd.sweeps.screen import display
from omd.sweeps.store import SWEEP, Sweep, check_empty

Engine = Literal["local", "ray"]
ENGINES: tuple[Engine, ...] = get_args(Engine)

Source = str | os.PathLike | Mapping[str, Any] | spec.Spec | None


def resolve(source: Source, options: Mapping[str, Sequence[Any]] | None) -> spec.Spec | Sweep:
    """The sweep's lanes; or the sweep itself where `source` is its folder."""
    if isinstance(source, spec.Spec):
        return source
    if isinstance(source, str | os.PathLike) and (pathlib.Path(source) / SWEEP).exists():
        if options:
            raise InputError(
                f"{source} is a sweep that has begun: its settings stay; leave out "
                f"{', '.join(options)}"
            )
        return Sweep(source)
    return spec.read(source, options)


def plan(
    lanes: Sequence[Any], *, workers: int | None, group_size: int | None, timed: bool = False
) -> tuple[Machine, tuple[Group, ...], list[float] | None, dict[str, Any]]:
    """Machine, groups, seconds of a lane's step in each group if `timed`, and provenance."""
    workers, group_size = (
        None if value is None else parts.count(name, value)
        for name, value in (("workers", workers), ("group_size", group_size))
    )
    values = spec.to_json(lanes) if lanes else {"base": {}, "lanes": []}
    options = {"workers": workers, "group_size": group_size, "timed": timed}
    answer = local.plan({**values, **options})
    groups = tuple(Group(**{**g, "lanes": tuple(g["lanes"])}) for g in answer["groups"])
    return Machine(**answer["machine"]), groups, answer["seconds"], answer["provenance"]


def run(
    source: Source,
    *,
    options: Mapping[str, Sequence[Any]] | None = None,
    out: str | os.PathLike | None = None,
    engine: Engine = "local",
    address: str | None = None,
    workers: int | None = None,
    group_size: int | None = None,
    progress: bool = True,
) -> Sweep:
    """Run what is missing of a sweep, and write its results; see `omd.sweep`."""
    closest("engine", engine, ENGINES)
    if address is not None and engine != "ray":
        raise InputError(f"address is {address!r}, but engine is {engine!r}: give engine 'ray'")
    if engine == "ray":
        from omd.sweeps.engines import ray_cluster as on_ray

        on_ray.check()
    wanted = resolve(source, options)
    if isinstance(wanted, Sweep):
        sweep = wanted
    else:
        path = pathlib.Path("sweeps") / wanted.name if out is None else parts.path("out", out)
        if (path / SWEEP).exists():
            sweep = Sweep(path)
            sweep.check(wanted)
        else:
            from omd.runs import files

            files.check_writable(path)
            check_empty(path)
            _, groups, _, origin = plan(wanted.lanes, workers=workers, group_size=group_size)
            sweep = Sweep.create(path, wanted, groups, origin)
    if not missing(sweep) and not _next(sweep):
        return _written(sweep)
    machine, *_ = plan((), workers=workers, group_size=group_size)
    sweep.clear_errors()
    begin = True
    try:
        with Stop() as stop:
            while not stop.requested:
                if lanes := _next(sweep):
                    _, groups, *_ = plan(lanes, workers=workers, group_size=group_size)
                    sweep = sweep.grown(lanes, groups)
                waiting = [g for g in missing(sweep) if not sweep.error(g)]
                if not waiting:
                    break
                with display(sweep, shown=progress) as screen:
                    if begin and sweep.points:
                        screen.say(race.budget(sweep.points))
                    begin = False
                    if engine == "ray":
                        on_ray.run(sweep, machine, address, lambda: stop.requested, screen)
                    else:
                        local.run(sweep, machine, lambda: stop.requested, screen)
    except InputError as error:
        count = len(sweep.groups) - len(missing(sweep))
        raise InputError(
            f"{error} ({count} of {len(sweep.groups)} groups are finished and kept)"
        ) from error
    return _written(sweep)


def _next(sweep: Sweep) -> list[Settings]:
    """The lanes that the sweep's races ask for next, from what is finished."""
    if not sweep.points:
        return []
    from omd.sweeps import collect

    return race.missing(sweep.points, sweep.lanes, collect.finished_returns(sweep))


def missing(sweep: Sweep) -> list[Group]:
    """Groups that aren't finished."""
    return [group for group in sweep.groups if not sweep.done(group)]


def failures(sweep: Sweep) -> dict[int, str]:
    """Groups that failed, with what was wrong."""
    found = {group.number: sweep.error(group) for group in missing(sweep)}
    return {index: sentence for index, sentence in found.items() if sentence}


def _written(sweep: Sweep) -> Sweep:
    from omd.sweeps import collect

    collect.write(sweep)
    return sweep
