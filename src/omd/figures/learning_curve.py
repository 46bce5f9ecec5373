"""The picture that every run leaves: return and model error over steps, by seed and on average."""

from __future__ import annotations

import pathlib

import numpy as np
import pandas as pd

from omd import parts
from omd.figures import style
from omd.runs import files
from omd.settings import Settings

WINDOW = 5
"""Evaluations that the drawn lines average over."""


@style.styled
def draw(metrics: pd.DataFrame, config: Settings, path: pathlib.Path) -> None:
    """Write a PNG: each seed a faint line, their mean, and the standard error as a band."""
    panels = {"episode_return": "episode return"}
    if "model_mse" in metrics and metrics["model_mse"].notna().any():
        panels["model_mse"] = "squared error of the model"
    figure = style.new_figure(4.4 * len(panels), 3.3)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    name = config.label
    colour = style.look(parts.text_of(type(config.objective))).colour
    for axis, (column, label) in zip(axes, panels.items(), strict=True):
        table = metrics.pivot(index="step", columns="seed", values=column).dropna(how="all")
        smooth = table.rolling(WINDOW, min_periods=1).mean()
        for seed in smooth:
            axis.plot(smooth.index, smooth[seed], color=colour, alpha=0.3, linewidth=0.7)
        mean = smooth.mean(axis=1)
        axis.plot(smooth.index, mean, color=colour, linewidth=2, label=name)
        if table.shape[1] > 1:
            error = smooth.std(axis=1, ddof=1) / np.sqrt(table.shape[1])
            axis.fill_between(smooth.index, mean - error, mean + error, color=colour, alpha=0.3)
        axis.set(xlabel="environment steps", ylabel=label, xlim=(0, None))
        axis.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}")
        if column == "model_mse":
            axis.set_yscale("log")
    count = metrics["seed"].nunique()
    spread = f"{count} seeds, mean and standard error" if count > 1 else "1 seed"
    noise = f", {config.distractors} distractors" if config.distractors else ""
    width = "" if not config.objective.uses_model else f", model width {config.model_hidden}"
    figure.suptitle(f"{name} on {config.env}{width}{noise}", fontsize=11)
    style.caption(figure, f"{spread}; lines average {WINDOW} evaluations of "
                          f"{config.evaluate_episodes} episodes")  # fmt: skip
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    with files.atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
