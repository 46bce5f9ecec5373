"""Curves over seeds."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from omd.figures.style import look


def table(x: np.ndarray, seed: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lanes as (x values [X], y [X, seeds]), in order of x; lanes at an infinite x are left out."""
    values = np.unique(x[np.isfinite(x)])
    seeds = np.unique(seed[np.isfinite(x)])
    where = {(a, b): i for i, (a, b) in enumerate(zip(x.tolist(), seed.tolist(), strict=True))}
    index = [[where[a, b] for b in seeds.tolist()] for a in values.tolist()]
    return values, y[np.asarray(index)]


def draw_seeds(
    axes: Axes,
    x: np.ndarray,
    seed: np.ndarray,
    y: np.ndarray,
    label: str,
    name: str = "",
    **line: Any,
) -> None:
    """The mean over seeds as a line with markers, and every seed as a faint line behind it."""
    shown = look(label)
    colour = shown.colour
    values, ys = table(x, seed, y)
    axes.plot(values, ys, color=colour, linewidth=0.6, alpha=0.25, zorder=1.5)
    options = {"marker": shown.marker, "label": name or label, "clip_on": False, **line}
    # hollow markers for one of two: curves that coincide stay visible
    axes.plot(values, ys.mean(axis=1), color=colour, markerfacecolor=shown.face, **options)


def draw_standard_error(
    axes: Axes, x: np.ndarray, seed: np.ndarray, y: np.ndarray, label: str, name: str
) -> None:
    """The mean over seeds as a line, with a band of one standard error around it."""
    values, ys = table(x, seed, y)
    mean = ys.mean(axis=1)
    error = ys.std(axis=1, ddof=1) / np.sqrt(ys.shape[1]) if ys.shape[1] > 1 else 0 * mean
    shown = look(label)
    colour = shown.colour
    axes.fill_between(values, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
    axes.plot(
        values,
        mean,
        color=colour,
        marker=shown.marker,
        markerfacecolor=shown.face,
        label=name,
        clip_on=False,
    )


def draw_over_steps(
    axes: Axes,
    frame: pd.DataFrame,
    column: str,
    colour: str,
    label: str,
    window: int,
    *,
    line: str = "-",
    centre: Literal["mean", "median"] = "mean",
) -> None:
    """A column against `step`: mean over seeds with a band of one standard error, or median with
    the quartiles (for errors on a log axis, where a mean is its largest entry). Every seed is
    averaged over `window` evaluations first."""
    wide = frame.pivot_table(index="step", columns=["sweep", "lane"], values=column)
    smooth = wide.rolling(window, min_periods=1).mean()
    steps = smooth.index.to_numpy(float)
    middle = smooth.mean(axis=1) if centre == "mean" else smooth.median(axis=1)
    axes.plot(steps, middle, color=colour, label=label, linestyle=line)
    if smooth.shape[1] > 1:
        error = smooth.std(axis=1, ddof=1) / np.sqrt(smooth.shape[1])
        low, high = middle - error, middle + error
        if centre == "median":
            low, high = smooth.quantile(0.25, axis=1), smooth.quantile(0.75, axis=1)
        axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}")
