"""The picture that every run leaves: return and model error over steps, by seed and on average."""

from __future__ import annotations

import io
import pathlib
import warnings

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from omd import parts
from omd.config import env_text
from omd.errors import Notice, in_a_line
from omd.figures import style
from omd.runs import files
from omd.settings import Settings

WINDOW = 5
"""Evaluations that the drawn lines average over."""


def draw(metrics: pd.DataFrame, config: Settings, path: pathlib.Path) -> None:
    """Write the picture as a PNG. Where that can't be done it warns: numbers are worth more."""
    try:
        content = picture(metrics, config)
        with files.atomic(path) as temporary:
            temporary.write_bytes(content)
    except Exception as error:  # whatever matplotlib says
        warnings.warn(f"no learning curve was drawn: {in_a_line(error)}", Notice, stacklevel=2)


@style.styled
def picture(metrics: pd.DataFrame, config: Settings) -> bytes:
    """A PNG: each seed a faint line, their centre, a band around it, a cross where one diverged.

    Returns are drawn as mean and standard error; errors of the model, on a log axis where a mean is
    its largest entry, as median and quartiles.
    """
    panels = {"episode_return": "episode return"}
    if "model_mse" in metrics and metrics["model_mse"].notna().any():
        panels["model_mse"] = "squared error of the model"
    figure = style.new_figure(4.4 * len(panels), 3.5)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    name = style.literal(config.label)
    colour = style.look(parts.text_of(type(config.objective))).colour
    for axis, (column, label) in zip(axes, panels.items(), strict=True):
        table = metrics.pivot(index="step", columns="seed", values=column).dropna(how="all")
        smooth = table.rolling(WINDOW, min_periods=1).mean()
        robust = column == "model_mse"
        for seed in smooth:
            axis.plot(smooth.index, smooth[seed], color=colour, alpha=0.3, linewidth=0.7)
        middle = smooth.median(axis=1) if robust else smooth.mean(axis=1)
        axis.plot(smooth.index, middle, color=colour, linewidth=2, label=name)
        if table.shape[1] > 1:
            error = smooth.std(axis=1, ddof=1) / np.sqrt(table.shape[1])
            low, high = middle - error, middle + error
            if robust:
                low, high = smooth.quantile(0.25, axis=1), smooth.quantile(0.75, axis=1)
            axis.fill_between(smooth.index, low, high, color=colour, alpha=0.3, linewidth=0)
        _mark_diverged(axis, metrics, smooth)
        axis.set(xlabel="environment steps", ylabel=label, xlim=(0, None))
        axis.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}")
        if robust:
            axis.set_yscale("log")
    count = metrics["seed"].nunique()
    spread = "1 seed" if count == 1 else f"{count} seeds: mean and standard error of returns"
    if count > 1 and len(panels) > 1:
        spread += ", median and quartiles of errors"
    noise = f", {config.distractors} distractors" if config.distractors else ""
    widths = parts.widths_text(config.model_hidden)
    width = "" if not config.objective.uses_model else f", model width {widths}"
    title = f"{name} on {style.literal(env_text(config.env))}{width}{noise}"
    figure.suptitle(title, fontsize=11)
    lost = metrics.loc[metrics["diverged"].astype(bool), "seed"].nunique()
    text = f"{spread}; lines average {WINDOW} evaluations of {config.evaluate_episodes} episodes"
    style.caption(figure, text + (f"; crosses: {lost} diverged" if lost else ""))
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()


def _mark_diverged(axis: Axes, metrics: pd.DataFrame, smooth: pd.DataFrame) -> None:
    """A cross on the last finite point of each seed at or before the step where it diverged."""
    first = metrics[metrics["diverged"].astype(bool)].groupby("seed")["step"].min()
    for seed, step in first.items():
        if seed not in smooth:
            continue
        line = smooth[seed].replace([np.inf, -np.inf], np.nan).dropna()
        before = line[line.index <= step]
        if not before.empty:
            axis.plot(
                before.index[-1],
                before.iloc[-1],
                "x",
                color="#cc0000",
                markersize=8,
                markeredgewidth=2,
                zorder=5,
            )
