"""The frame of some lanes: their settings, their evaluations, their status."""

from __future__ import annotations

import math

import pandas as pd

from omd import parts
from omd.config import SETTINGS
from omd.settings import Settings

STATUSES = ("finished", "diverged", "unfinished", "failed", "missing")


def settings_row(config: Settings, lane: int, seed: int) -> dict[str, object]:
    """The settings of a lane as a row of a frame: parts as the text that tells them apart."""
    values = config.to_dict()
    for name, one in SETTINGS.items():
        if one.metadata.get("part"):
            values[name] = parts.text_of(getattr(config, name))
        elif one.type == "widths" and isinstance(values[name], list):
            values[name] = parts.widths_text(getattr(config, name))
    values["env_args"] = ",".join(f"{k}={v}" for k, v in config.env_args)
    del values["seeds"]
    return {"lane": lane, "seed": seed, **values}


def with_uniform_widths(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of units of hidden layers as text where a lane's is text, since its layers differ."""
    mixed = [n for n, one in SETTINGS.items() if one.type == "widths" and n in frame]
    return frame.astype({n: str for n in mixed if any(isinstance(v, str) for v in frame[n])})


def joined(
    lanes: pd.DataFrame,
    metrics: pd.DataFrame | None,
    random_errors: dict[int, float],
    error: str | None = None,
    *,
    finished: bool,
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
