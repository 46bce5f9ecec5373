"""The results of a sweep, gathered from the folders of its groups."""

from __future__ import annotations

import pathlib
import warnings

import pandas as pd

from omd.errors import InputError, Notice, in_a_line
from omd.runs import files
from omd.runs.folder import METRICS, has_checkpoint
from omd.runs.rows import joined, settings_row, with_uniform_widths
from omd.runs.run import LAST
from omd.settings import Settings
from omd.sweeps import race
from omd.sweeps.plan import Group
from omd.sweeps.store import DONE, Sweep

RESULTS = "results.parquet"
LIVE_UNITS = "live_units_"
"""Begins the columns that count the live units of the first model's hidden layers."""


def gather(sweep: Sweep) -> pd.DataFrame:
    """The frame of a sweep as far as it is, from its groups' folders."""
    parts = []
    choosing = race.choosing(sweep.points)
    for group in sweep.groups:
        folder = sweep.folder(group)
        lanes = pd.DataFrame(
            [settings_row(sweep.lanes[n], n, sweep.lanes[n].seed_list[0]) for n in group.lanes]
        )
        lanes["purpose"] = [
            race.CHOICE if sweep.lanes[n] in choosing else race.REPORT for n in group.lanes
        ]
        try:
            frame, errors, live = _read(sweep, group)
            words, finished = sweep.error(group), sweep.done(group)
        except InputError as error:  # the other groups are fine
            frame, errors, live, words, finished = None, {}, {}, str(error), False
            warnings.warn(
                f"{error}; the lanes of group {group.number} are left out: to train them anew, "
                f"remove {folder} and run the sweep again",
                Notice,
                stacklevel=2,
            )
        part = joined(lanes, frame, errors, words, finished=finished)
        for name, counts in live.items():
            part[f"{LIVE_UNITS}{name}"] = part["lane"].map(counts).astype("Int64")
        parts.append(part)
    frame = with_uniform_widths(pd.concat(parts, ignore_index=True))
    return frame.sort_values(["lane", "step"], ignore_index=True)


def _read(
    sweep: Sweep, group: Group
) -> tuple[pd.DataFrame | None, dict[int, float], dict[str, dict[int, int]]]:
    """Of a group its metrics, and by lane the errors of random models and, by layer, live units.
    Raises `InputError` for damaged files."""
    folder = sweep.folder(group)
    metrics, done = folder / METRICS, folder / DONE
    if not done.exists():
        if has_checkpoint(folder) and not metrics.exists():
            raise files.FileError(f"{metrics} is missing, with all evaluations so far")
        frame = files.read_frame(metrics, "lane", "seed", "step") if metrics.exists() else None
        return frame, {}, {}
    frame = files.read_frame(metrics, "lane", "seed", "step")
    record = files.read_json(done, random_model_mse=list)
    try:
        errors = dict(zip(group.lanes, record["random_model_mse"], strict=True))
        live = {
            name: dict(zip(group.lanes, counts, strict=True))
            for name, counts in record.get("live_units", {}).items()
        }
    except (TypeError, ValueError, AttributeError) as error:
        raise files.FileError(f"{done} can't be read: {in_a_line(error)}") from error
    return frame, errors, live


def finished_returns(sweep: Sweep) -> dict[Settings, float]:
    """The final return of each lane that is finished: the mean of its last evaluations."""
    found: dict[Settings, float] = {}
    for group in sweep.groups:
        if sweep.done(group):
            try:
                frame = files.read_frame(
                    sweep.folder(group) / METRICS, "lane", "step", "episode_return"
                )
            except files.FileError:  # `gather` says so; its race waits
                continue
            frame = frame.sort_values("step")
            for number in group.lanes:
                mine = frame.loc[frame["lane"] == number, "episode_return"]
                found[sweep.lanes[number]] = float(mine.tail(LAST).mean(skipna=False))
    return found


def write(sweep: Sweep) -> pathlib.Path:
    """Write the frame of a sweep into its folder."""
    path = sweep.path / RESULTS
    files.write_frame(path, gather(sweep))
    return path
