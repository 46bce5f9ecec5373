"""A sweep's folder: its lanes and groups, who works on which, what is finished.

    sweep.json               lanes and groups, fixed when the sweep begins; races add lanes
    groups/0007/             metrics.parquet, checkpoint.safetensors, provenance.json, progress.json
      done.json, agents.safetensors        once finished, in place of the checkpoint
      error.json                           if it failed
    results.parquet          every lane's settings, evaluations and status

A group belongs to whoever holds its lock, which the kernel releases when that process dies.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import filelock

from omd import parts
from omd.errors import InputError, in_a_line
from omd.settings import Settings
from omd.sweeps import race
from omd.sweeps import spec as specs
from omd.sweeps.plan import Group

SWEEP, DONE, ERROR, PROGRESS = "sweep.json", "done.json", "error.json", "progress.json"


def check_empty(path: pathlib.Path) -> None:
    """Raises `InputError` where a new sweep's folder holds what is none of a sweep's."""
    others = [p.name for p in path.glob("*") if not p.name.startswith(".")]
    if others:
        raise InputError(
            f"{path} holds other things ({', '.join(sorted(others)[:3])}): choose a folder of its "
            "own for the sweep"
        )


class Sweep:
    """An existing sweep's folder."""

    def __init__(self, path: str | os.PathLike) -> None:
        """Raises `InputError` if the folder holds no sweep."""
        self.path = parts.path("sweep", path)
        values = _read(self.path / SWEEP)
        if values is None:
            raise InputError(f"{self.path} is no sweep: it has no {SWEEP}")
        try:
            self.name, self.about = str(values["name"]), str(values["about"])
            self.lanes = specs.from_json(values)
            self.groups = tuple(
                Group(i, tuple(g["lanes"]), _widths(g["padded"]), g["flops"], g["bytes"])
                for i, g in enumerate(values["groups"])
            )
            self.provenance: dict[str, Any] = values["provenance"]
            self.points = race.from_json(values.get("points", ()))
            self._begun = int(values.get("begun", len(self.lanes)))
            for group in self.groups:
                self.configs(group)
        except KeyError as error:
            raise InputError(f"{self.path / SWEEP} can't be used: it has no {error}") from error
        except (TypeError, ValueError, AttributeError, IndexError) as error:  # InputError as well
            words = in_a_line(error)
            raise InputError(f"{self.path / SWEEP} can't be used: {words}") from error

    @classmethod
    def create(
        cls,
        path: str | os.PathLike,
        spec: specs.Spec,
        groups: Sequence[Group],
        provenance: dict[str, Any],
    ) -> Sweep:
        """Begin a sweep, or take the one that is there if it is the same; else `InputError`."""
        path = pathlib.Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(path / ".lock"):
                if not (path / SWEEP).exists():
                    check_empty(path)
                    values = {
                        "name": spec.name,
                        "about": spec.about,
                        "provenance": provenance,
                        **_plan(spec.lanes, groups),
                    }
                    if spec.points:
                        values |= {
                            "begun": len(spec.lanes),
                            "points": race.to_json(spec.points),
                        }
                    write(path / SWEEP, values)
        except OSError as error:
            raise InputError(f"{path} can't be written: {error.strerror}") from error
        sweep = cls(path)
        sweep.check(spec)
        return sweep

    def grown(self, lanes: Sequence[Settings], groups: Sequence[Group]) -> Sweep:
        """The sweep with the lanes that its races ask for next, in groups that number those new
        lanes from 0; or as another process has grown it meanwhile."""
        with filelock.FileLock(self.path / ".lock"):
            now = Sweep(self.path)
            if len(now.lanes) == len(self.lanes):
                count = len(self.lanes)
                added = [g._replace(lanes=tuple(count + n for n in g.lanes)) for g in groups]
                values = _read(self.path / SWEEP) or {}
                values |= _plan([*self.lanes, *lanes], [*self.groups, *added])
                write(self.path / SWEEP, values)
        return Sweep(self.path)

    def check(self, spec: specs.Spec) -> None:
        """Raises `InputError` if this is another sweep than `spec`."""
        begun = self.lanes[: self._begun]
        if set(begun) == set(spec.lanes):
            if self.points == spec.points:
                return
            raise InputError(
                f"{self.path} holds another sweep ({self.name!r}, with another race): choose "
                f"another folder, or go on with that one by `omd sweep {self.path}`"
            )
        extra = [lane for lane in spec.lanes if lane not in set(begun)]
        lane = extra[0] if extra else None
        words = f"it has {len(begun)} lanes, not {len(spec.lanes)}"
        if lane is not None:
            mine = lane.to_dict()
            near = min(
                (other.to_dict() for other in begun),
                key=lambda theirs: sum(theirs[k] != mine[k] for k in mine),
            )
            differing = [f"{k} {near[k]!r}, not {mine[k]!r}" for k in mine if near[k] != mine[k]]
            words = f"its nearest lane has {', '.join(differing)}"
        raise InputError(
            f"{self.path} holds another sweep ({self.name!r}; {words}): choose another folder, or "
            f"go on with that one by `omd sweep {self.path}`"
        )

    def configs(self, group: Group) -> list[Settings]:
        return [self.lanes[number] for number in group.lanes]

    def folder(self, group: Group) -> pathlib.Path:
        return self.path / "groups" / f"{group.number:04d}"

    def done(self, group: Group) -> bool:
        return (self.folder(group) / DONE).exists()

    def error(self, group: Group) -> str | None:
        """Why the group failed, if it did."""
        try:
            values = _read(self.folder(group) / ERROR, sentence=str)
            return values["sentence"] if values else None
        except InputError as error:
            return str(error)

    def fail(self, group: Group, sentence: str) -> None:
        """Note why a group failed."""
        folder = self.folder(group)
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / ERROR, {"sentence": sentence, "time": time.time()})

    def clear_errors(self) -> None:
        """Forget failures: the groups are tried anew."""
        for group in self.groups:
            from omd.runs import files

            path = self.folder(group) / ERROR
            with files.writing(path):
                path.unlink(missing_ok=True)

    def step(self, group: Group) -> int:
        """The step that a group has reached, by its last report."""
        if self.done(group):
            return self.lanes[group.lanes[0]].steps
        with contextlib.suppress(InputError):  # for the display only
            step = (_read(self.folder(group) / PROGRESS) or {}).get("step", 0)
            return step if isinstance(step, int) else 0
        return 0

    @contextlib.contextmanager
    def claim(self, group: Group) -> Iterator[bool]:
        """Whether the group is ours for the block; no other process's on this folder then."""
        folder = self.folder(group)
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock")
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


def _widths(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _plan(lanes: Sequence[Settings], groups: Sequence[Group]) -> dict[str, Any]:
    """Lanes and groups as plain values."""
    return {
        **specs.to_json(lanes),
        "groups": [{**g._asdict(), "lanes": list(g.lanes)} for g in groups],
    }


def write(path: pathlib.Path, values: dict[str, Any]) -> None:
    """JSON, written atomically."""
    from omd.runs import files

    files.write_json(path, values)


def _read(path: pathlib.Path, **fields: type) -> dict[str, Any] | None:
    if not path.exists():
        return None
    from omd.runs import files

    try:
        return files.read_json(path, **fields)
    except files.FileError as error:
        if isinstance(error.__cause__, FileNotFoundError):  # a worker has just removed it
            return None
        raise
