"""The results of a sweep, gathered from the folders of its groups."""

from __future__ import annotations

import pathlib

import pandas as pd

from omd.runs import files
from omd.runs.rows import joined, settings_row, with_uniform_widths
from omd.runs.run import LAST
from omd.settings import Settings
from omd.sweeps import race
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
        metrics, done = folder / "metrics.parquet", folder / DONE
        frame = files.read_frame(metrics, "lane", "seed", "step") if metrics.exists() else None
        errors, live = {}, {}
        if done.exists():
            record = files.read_json(done, random_model_mse=list)
            errors = dict(zip(group.lanes, record["random_model_mse"], strict=True))
            live = {
                name: dict(zip(group.lanes, counts, strict=True))
                for name, counts in record.get("live_units", {}).items()
            }
        part = joined(lanes, frame, errors, sweep.error(group), finished=done.exists())
        for name, counts in live.items():
            part[f"{LIVE_UNITS}{name}"] = part["lane"].map(counts).astype("Int64")
        parts.append(part)
    frame = with_uniform_widths(pd.concat(parts, ignore_index=True))
    return frame.sort_values(["lane", "step"], ignore_index=True)


def finished_returns(sweep: Sweep) -> dict[Settings, float]:
    """The final return of each lane that is finished: the mean of its last evaluations."""
    found: dict[Settings, float] = {}
    for group in sweep.groups:
        if sweep.done(group):
            frame = files.read_frame(
                sweep.folder(group) / "metrics.parquet", "lane", "step", "episode_return"
            )
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
