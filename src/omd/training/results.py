"""Results as data: one frame with every lane's settings, evaluations, diagnostics and status."""

from __future__ import annotations

import math
import os
import pathlib

import pandas as pd

from omd.config import Config
from omd.training import files, run
from omd.training.run import LAST
from omd.training.sweep.store import DONE, SWEEP, Sweep
from omd.types import InputError

RESULTS = "results.parquet"
STATUSES = ("finished", "diverged", "unfinished", "failed", "missing")


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
        return gather(Sweep(path))
    if (path / "config.json").exists():
        loaded = run.load(path)
        lanes = pd.DataFrame([_settings(loaded.config, i, s)
                              for i, s in enumerate(loaded.config.seed_list)])  # fmt: skip
        return _joined(lanes, loaded.metrics, loaded.finished, {})
    if (path / RESULTS).exists():
        return pd.read_parquet(path / RESULTS)
    raise InputError(f"{path} is neither a sweep nor a run: it has no {SWEEP} and no config.json")


def gather(sweep: Sweep) -> pd.DataFrame:
    """The frame of a sweep as far as it is, from its groups' folders."""
    parts = []
    for group in sweep.groups:
        folder = sweep.folder(group)
        lanes = pd.DataFrame(
            [_settings(sweep.lanes[n], n, sweep.lanes[n].seed_list[0]) for n in group.lanes]
        )
        metrics, done = folder / "metrics.parquet", folder / DONE
        frame = pd.read_parquet(metrics) if metrics.exists() else None
        errors = {}
        if done.exists():
            errors = dict(zip(group.lanes, files.read_json(done)["random_model_mse"], strict=True))
        parts.append(_joined(lanes, frame, done.exists(), errors, sweep.error(group)))
    frame = pd.concat(parts, ignore_index=True)
    return frame.sort_values(["lane", "step"], ignore_index=True)


def write(sweep: Sweep) -> pathlib.Path:
    """Write the frame of a sweep into its folder."""
    path = sweep.path / RESULTS
    files.write_frame(path, gather(sweep))
    return path


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
    settings = [c for c in lanes.columns if c in _SETTINGS or c in _LANE]
    return lanes[settings].join([returns, errors, first]).reset_index()


_SETTINGS = set(Config.__dataclass_fields__) - {"seeds"}
_LANE = ("seed", "status", "random_model_mse")


def _settings(config: Config, lane: int, seed: int) -> dict[str, object]:
    values = config.to_dict()
    del values["seeds"]
    return {"lane": lane, "seed": seed, **values}


def _joined(
    lanes: pd.DataFrame,
    metrics: pd.DataFrame | None,
    finished: bool,
    random_errors: dict[int, float],
    error: str | None = None,
) -> pd.DataFrame:
    if metrics is None or metrics.empty:
        frame = lanes.assign(status="failed" if error else "missing", step=math.nan)
    else:
        # the setting `reward` says where rewards come from; this is the mean one of a chunk
        metrics = metrics.drop(columns="seed").rename(columns={"reward": "training_reward"})
        frame = lanes.merge(metrics, on="lane", how="left")
        diverged = frame.groupby("lane")["diverged"].transform("any")
        state = "finished" if finished else "failed" if error else "unfinished"
        frame.insert(lanes.shape[1], "status", state)
        if finished:
            frame["status"] = frame["status"].mask(diverged, "diverged")
    frame["step"] = frame["step"].astype("Int64")
    # settings that are off are missing numbers; they stay so when parts without any are joined
    frame["replay_capacity"] = frame["replay_capacity"].astype("Int64")
    frame["random_model_mse"] = frame["lane"].map(random_errors).astype("float64")
    return frame
