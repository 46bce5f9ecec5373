"""The results of a sweep, gathered from the folders of its groups."""

from __future__ import annotations

import pathlib

import pandas as pd

from omd.runs import files
from omd.runs.rows import joined, settings_row
from omd.sweeps.store import DONE, Sweep

RESULTS = "results.parquet"


def gather(sweep: Sweep) -> pd.DataFrame:
    """The frame of a sweep as far as it is, from its groups' folders."""
    parts = []
    for group in sweep.groups:
        folder = sweep.folder(group)
        lanes = pd.DataFrame(
            [settings_row(sweep.lanes[n], n, sweep.lanes[n].seed_list[0]) for n in group.lanes]
        )
        metrics, done = folder / "metrics.parquet", folder / DONE
        frame = pd.read_parquet(metrics) if metrics.exists() else None
        errors = {}
        if done.exists():
            errors = dict(zip(group.lanes, files.read_json(done)["random_model_mse"], strict=True))
        parts.append(joined(lanes, frame, done.exists(), errors, sweep.error(group)))
    frame = pd.concat(parts, ignore_index=True)
    return frame.sort_values(["lane", "step"], ignore_index=True)


def write(sweep: Sweep) -> pathlib.Path:
    """Write the frame of a sweep into its folder."""
    path = sweep.path / RESULTS
    files.write_frame(path, gather(sweep))
    return path
