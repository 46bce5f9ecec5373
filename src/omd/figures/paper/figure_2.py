"""Figure 2: expected return of OMD and MLE under every bound on the model's norm."""

from __future__ import annotations

import time
from pathlib import Path

from matplotlib.figure import Figure

from omd.figures.curves import draw_seeds
from omd.figures.paper.bounded import Runs, Settings, Truth, describe, run_both, settings
from omd.figures.style import (
    Progress,
    caption,
    check_options,
    new_figure,
    save,
    styled,
    watermark,
)
from omd.tabular.design.formulation import RETURN


def make(
    out: Path,
    *,
    budget: str = "paper",
    projection: str = "ball",
    seeds: int = 10,
    say: Progress | None = None,
) -> list[Path]:
    """Writes figure-2.png, .pdf, .csv and .json into `out`; returns their paths.

    Raises `InputError` for an unknown budget or projection, or without any seed.
    """
    check_options(budget, projection, seeds)
    start = time.perf_counter()
    setting = settings(budget, seeds)
    runs, truth = run_both(RETURN, projection, setting, say)
    rows = [
        row
        for label, run in runs.items()
        for row in run.rows(label, expected_return=run.expected_return)
    ]
    figure = _draw(runs, truth, setting, budget, projection)
    record = {
        "figure": 2,
        "budget": budget,
        "projection": projection,
        "settings": setting._asdict(),
        "optimal_return": truth.expected_return,
        "wall_clock_seconds": round(time.perf_counter() - start, 2),
    }
    return save(figure, out, "figure-2", rows, record)


@styled
def _draw(
    runs: dict[str, Runs], truth: Truth, setting: Settings, budget: str, projection: str
) -> Figure:
    figure = new_figure(5.0, 3.8)
    axes = figure.add_subplot()
    dashes = (0, (5, 3))
    value = truth.expected_return
    axes.axhline(value, color="black", linestyle=dashes, linewidth=1, label="optimal", zorder=1)
    for label, run in runs.items():
        draw_seeds(axes, run.bound, run.seed, run.expected_return, label)
    axes.set_xlabel("bound κ on the model's norm")
    axes.set_ylabel("expected return J")
    axes.set_xlim(0, max(setting.bounds))
    axes.set_ylim(None, 1.15)
    axes.legend(loc="lower right")
    axes.set_title(f"Returns of OMD and MLE — projection: {projection}", fontsize=9, loc="left")
    caption(figure, describe(projection, runs, setting))
    figure.tight_layout(rect=(0, 0.11, 1, 1))
    watermark(figure, budget)
    return figure
