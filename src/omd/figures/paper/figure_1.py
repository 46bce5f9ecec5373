"""Figure 1: the idea. A model that is too small, trained for likelihood and for control: what each
predicts and what each earns. The paper draws its method here; this draws what it is good for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from omd.errors import InputError
from omd.figures.curves import draw_over_steps
from omd.figures.paper.swept import Data, best, describe, load
from omd.figures.style import caption, look, new_figure, save, styled, watermark
from omd.sweeps.driver import Engine

SWEEPS = {
    "smoke": ("smoke-figure-4",),
    "quick": ("quick-figure-4",),
    "paper": ("paper-figure-4-left",),
}
WIDTH = 2
"""Units in each hidden layer of the model that is drawn; the narrowest one where it is missing."""
NAMES = {"mle": "trained for likelihood (MLE)", "omd": "trained for control (OMD)"}
WINDOW = 10
"""Evaluations that the drawn lines average over."""


def make(
    out: Path,
    *,
    budget: str = "paper",
    sweeps: Sequence[str | Path] = (),
    engine: Engine = "local",
    workers: int | None = None,
    progress: bool = True,
) -> list[Path]:
    """Writes figure-1.png, .pdf, .csv and .json.

    `sweeps` are folders to read; without any, the budget's sweep runs as far as it is missing.
    """
    data = load(1, SWEEPS, budget, sweeps, engine=engine, workers=workers, progress=progress)
    finals = data.finals
    wanted = finals[finals["objective"].isin(NAMES) & (finals["distractors"] == 0)]
    if wanted.empty:
        raise InputError("no lane of OMD or MLE without distractors is finished yet")
    widths = wanted["model_hidden"].unique()
    wanted = wanted[wanted["model_hidden"] == (WIDTH if WIDTH in widths else widths.min())]
    chosen = best(wanted, ["objective", "model_hidden", "distractors"])
    frame = data.frame.merge(chosen[["sweep", "lane"]], on=["sweep", "lane"])
    columns = ["objective", "model_hidden", "seed", "step", "model_mse", "episode_return"]
    rows = frame.sort_values(["objective", "seed", "step"])[columns]
    figure = _draw(data, chosen, frame, budget)
    return save(figure, out, "figure-1", rows.to_dict("records"), data.record)


@styled
def _draw(data: Data, chosen: pd.DataFrame, frame: pd.DataFrame, budget: str) -> Figure:
    figure = new_figure(7.4, 3.9)
    errors, returns = figure.subplots(1, 2)
    for objective in NAMES:
        mine = frame[frame["objective"] == objective]
        if not mine.empty:
            colour = look(objective).colour
            draw_over_steps(errors, mine, "model_mse", colour, objective, WINDOW, centre="median")
            draw_over_steps(returns, mine, "episode_return", colour, objective, WINDOW)
    errors.set(yscale="log")
    errors.set_title("What it predicts: squared error\nof the next state", loc="left")
    returns.set(ylim=(0, None))
    returns.set_title("What it earns: return\nof an episode", loc="left")
    for axes in (errors, returns):
        axes.set(xlabel="environment steps", xlim=(0, None))
        axes.title.set_fontsize(10)
    figure.legend(
        returns.lines,
        [NAMES[str(line.get_label())] for line in returns.lines],
        ncols=2,
        loc="upper center",
        fontsize=10,
        frameon=False,
    )
    width = chosen["model_hidden"].iloc[0]
    text = f"{frame['env'].iloc[0]}, model of {width} units a layer. " + describe(data, chosen)
    text += f"Lines average {WINDOW} evaluations. Left: median of the seeds, quartiles as band; "
    caption(figure, text + "right: mean, standard error as band.")
    figure.tight_layout(rect=(0, 0.1, 1, 0.93))
    watermark(figure, budget)
    return figure
