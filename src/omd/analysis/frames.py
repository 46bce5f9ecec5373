"""Results as data: one frame with every lane's settings, evaluations, diagnostics and status."""

from __future__ import annotations

import os

import pandas as pd

from omd import parts
from omd.config import SETTINGS
from omd.errors import InputError
from omd.runs import files, run
from omd.runs.rows import joined, settings_row
from omd.runs.run import LAST
from omd.sweeps import collect
from omd.sweeps.collect import LIVE_UNITS, RESULTS
from omd.sweeps.race import REPORT
from omd.sweeps.store import SWEEP, Sweep


def results(path: str | os.PathLike) -> pd.DataFrame:
    """A row for each evaluation of each lane of a sweep or a run.

    Columns: lane, seed, every setting, status (one of `STATUSES`), step, and what was measured:
    episode_return, model_mse, …. `purpose` is "report", or "choice" for lanes of a sweep's race
    that only chose settings. `random_model_mse` is the error of the lane's untrained model on the
    transitions that the lane saw; `live_units_NETWORK_LAYER` counts that model's units that are
    above zero for some of these. A lane without any evaluation has one row, its step missing.
    Raises `InputError` where there is neither sweep nor run.
    """
    path = parts.path("path", path)
    if path.is_file():
        return files.read_frame(path)
    if (path / SWEEP).exists():
        if (path / RESULTS).exists() and not (path / "groups").exists():
            return files.read_frame(path / RESULTS)
        return collect.gather(Sweep(path))
    if (path / "config.json").exists():
        loaded = run.load(path)
        lanes = pd.DataFrame(
            [settings_row(loaded.config, i, s) for i, s in enumerate(loaded.config.seed_list)]
        )
        lanes["purpose"] = REPORT
        return joined(lanes, loaded.metrics, {}, finished=loaded.finished)
    if (path / RESULTS).exists():
        return files.read_frame(path / RESULTS)
    raise InputError(f"{path} is neither a sweep nor a run: it has no {SWEEP} and no config.json")


def final_returns(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a lane: its settings, `final_return` and `final_model_mse`, means over its last ten
    evaluations; `best_window_return`, the highest mean of ten evaluations in a row (of all of them
    where there are fewer); and `initial_return`, of the untrained policy. `draw` is "dead" where
    some unit in the last hidden layer of the lane's untrained dynamics network was zero on all
    transitions that the lane saw, "live" where none was, "unknown" where nobody counted. `purpose`
    is "choice" for lanes that only chose settings in a sweep's race, else "report".

    Lanes that aren't finished are left out: a missing number is no low one.
    """
    complete = frame[frame["status"].isin(["finished", "diverged"])]
    if "model_mse" not in complete:  # no lane has a model
        complete = complete.assign(model_mse=float("nan"))
    last = complete.sort_values("step").groupby("lane", sort=True).tail(LAST)
    returns = last.groupby("lane")["episode_return"].mean().rename("final_return")
    errors = last.groupby("lane")["model_mse"].mean().rename("final_model_mse")
    first = (
        complete[complete["step"] == 0].set_index("lane")["episode_return"].rename("initial_return")
    )
    windows = complete.sort_values("step").groupby("lane", sort=True)["episode_return"]
    best = windows.agg(_best_window).rename("best_window_return")
    lanes = complete.drop_duplicates("lane").set_index("lane")
    settings = [c for c in lanes.columns if c in SETTINGS or c in _LANE or c.startswith(LIVE_UNITS)]
    table = lanes[settings].join([returns, best, errors, first]).reset_index()
    return table.assign(draw=_draws(table))


def _draws(finals: pd.DataFrame) -> pd.Series:
    found = pd.Series("unknown", index=finals.index)
    for network in ("joint", "state"):
        layers = sorted(c for c in map(str, finals) if c.startswith(f"{LIVE_UNITS}{network}_"))
        if layers:
            live = finals[layers[-1]].astype("Float64")
            units = finals["model_hidden"].map(_last_layer)
            dead = (live < units).fillna(False).astype(bool)
            found = found.mask(live.notna() & dead, "dead").mask(live.notna() & ~dead, "live")
    return found


def _last_layer(widths: int | str) -> int:
    """Units of the last hidden layer, of widths as results hold them: 64, or 64x32."""
    return int(str(widths).rstrip("x").rpartition("x")[2])


def _best_window(returns: pd.Series) -> float:
    return returns.rolling(min(LAST, len(returns))).mean().max()


_LANE = ("seed", "status", "purpose", "random_model_mse")
