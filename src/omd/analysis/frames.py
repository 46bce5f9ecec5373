"""Results as data: one frame with every lane's settings, evaluations, diagnostics and status."""

from __future__ import annotations

import os
import pathlib

import pandas as pd

from omd.config import SETTINGS
from omd.errors import InputError
from omd.runs import run
from omd.runs.rows import joined, settings_row
from omd.runs.run import LAST
from omd.sweeps import collect
from omd.sweeps.collect import RESULTS
from omd.sweeps.store import SWEEP, Sweep


def results(path: str | os.PathLike) -> pd.DataFrame:
    """A row for each evaluation of each lane of a sweep or a run.

    Columns: lane, seed, every setting, status (one of `STATUSES`), step, and what was measured:
    episode_return, model_mse, …. `random_model_mse` is the error of the lane's untrained model on
    the transitions that the lane saw. A lane without any evaluation has one row, its step missing.
    Raises `InputError` where there is neither sweep nor run.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return pd.read_parquet(path)
    if (path / SWEEP).exists():
        if (path / RESULTS).exists() and not (path / "groups").exists():
            return pd.read_parquet(path / RESULTS)
        return collect.gather(Sweep(path))
    if (path / "config.json").exists():
        loaded = run.load(path)
        lanes = pd.DataFrame([settings_row(loaded.config, i, s)
                              for i, s in enumerate(loaded.config.seed_list)])  # fmt: skip
        return joined(lanes, loaded.metrics, loaded.finished, {})
    if (path / RESULTS).exists():
        return pd.read_parquet(path / RESULTS)
    raise InputError(f"{path} is neither a sweep nor a run: it has no {SWEEP} and no config.json")


def final_returns(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a lane: its settings, `final_return` and `final_model_mse`, means over its last ten
    evaluations, and `initial_return`, of the untrained policy.

    Lanes that aren't finished are left out: a missing number is no low one.
    """
    whole = frame[frame["status"].isin(["finished", "diverged"])]
    last = whole.sort_values("step").groupby("lane", sort=True).tail(LAST)
    returns = last.groupby("lane")["episode_return"].mean().rename("final_return")
    errors = last.groupby("lane")["model_mse"].mean().rename("final_model_mse")
    first = whole[whole["step"] == 0].set_index("lane")["episode_return"].rename("initial_return")
    lanes = whole.drop_duplicates("lane").set_index("lane")
    settings = [c for c in lanes.columns if c in SETTINGS or c in _LANE]
    return lanes[settings].join([returns, errors, first]).reset_index()


_LANE = ("seed", "status", "random_model_mse")
