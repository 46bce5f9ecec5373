"""Figure 4: final returns on CartPole with small models, and with distractors (section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from omd.analysis import claims
from omd.analysis.statistics import aggregate
from omd.figures.paper.swept import Data, best, describe, load, ordered
from omd.figures.style import (
    caption,
    look,
    new_figure,
    save,
    save_table,
    styled,
    watermark,
)
from omd.sweeps.driver import Engine

SWEEPS = {
    "smoke": ("smoke-figure-4",),
    "quick": ("quick-figure-4",),
    "paper": ("paper-figure-4-left", "paper-figure-4-right"),
}
PANELS = {"left": "model_hidden", "right": "distractors"}
COLUMNS = [
    "panel",
    "objective",
    "model_hidden",
    "distractors",
    "seed",
    "inner_learning_rate",
    "tau",
    "final_return",
    "best_window_return",
    "draw",
]
MEASURES = ("final_return", "best_window_return")


def make(
    out: Path,
    *,
    budget: str = "paper",
    sweeps: Sequence[str | Path] = (),
    engine: Engine = "local",
    workers: int | None = None,
    progress: bool = True,
) -> list[Path]:
    """Writes figure-4.png, .pdf, .csv, .json, a table of aggregates and one of claims.

    `sweeps` are folders to read; without any, the budget's sweeps run as far as they are missing.
    """
    data = load(4, SWEEPS, budget, sweeps, engine=engine, workers=workers, progress=progress)
    chosen = best(data.finals, ["objective", "model_hidden", "distractors"])
    left = chosen["distractors"] == 0
    chosen = chosen.assign(panel=left.map({True: "left", False: "right"}))
    chosen = chosen.sort_values(["panel", "objective", "model_hidden", "distractors", "seed"])
    points = ["panel", "objective", "model_hidden", "distractors", "inner_learning_rate", "tau"]
    table = _tables(chosen, points)
    figure = _draw(data, chosen, table[_of(table, "final_return", "all")], budget)
    paths = save(figure, out, "figure-4", chosen[COLUMNS].to_dict("records"), data.record)
    paths.append(save_table(table, out / "figure-4-aggregates.csv"))
    return [*paths, *claims.write(claims.of_figure(chosen, 4), out, "figure-4-claims")]


def _tables(chosen: pd.DataFrame, points: list[str]) -> pd.DataFrame:
    """Both measures at every point, over all draws, and over live and dead ones apart."""
    parts = []
    for measure in MEASURES:
        parts.append(aggregate(chosen, points, measure).assign(measure=measure, draws="all"))
        for draw in ("live", "dead"):
            mine = chosen[chosen["draw"] == draw]
            if not mine.empty:
                parts.append(aggregate(mine, points, measure).assign(measure=measure, draws=draw))
    return pd.concat(parts, ignore_index=True)


def _of(table: pd.DataFrame, measure: str, draws: str) -> pd.Series:
    return (table["measure"] == measure) & (table["draws"] == draws)


@styled
def _draw(data: Data, chosen: pd.DataFrame, table: pd.DataFrame, budget: str) -> Figure:
    panels = [panel for panel in PANELS if (chosen["panel"] == panel).any()]
    figure = new_figure(4.3 * len(panels) + 0.2, 3.8)
    labels = {"left": "units in the model's hidden layers", "right": "distractors"}
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        part = chosen[chosen["panel"] == panel]
        means = table[table["panel"] == panel]
        _panel(axes, part, means, PANELS[panel])
        axes.set_xlabel(labels[panel])
        axes.set_title(
            f"{'small models' if panel == 'left' else 'noise in the state'}, {part['env'].iloc[0]}",
            fontsize=9,
            loc="left",
        )
        if place == 0:
            axes.set_ylabel("final return")
            axes.legend(loc="best")
    text = (
        describe(data, chosen)
        + "Lines: mean ± standard error; dots: seeds, a little apart by objective"
    )
    if (chosen["draw"] == "dead").any():
        text += ", crosses: those whose untrained model had a dead unit in its last hidden layer"
    text += "."
    caption(figure, text)
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    watermark(figure, budget)
    return figure


def _panel(axes: Axes, part: pd.DataFrame, means: pd.DataFrame, column: str) -> None:
    values = sorted(part[column].unique())
    place = {value: i for i, value in enumerate(values)}
    names = ordered(part["objective"])
    for i, name in enumerate(names):
        shown = look(name)
        shift = 0.12 * (i - (len(names) - 1) / 2)
        seeds = part[part["objective"] == name]
        for dead in (False, True):
            mine = seeds[(seeds["draw"] == "dead") == dead]
            axes.plot(
                mine[column].map(place) + shift,
                mine["final_return"],
                linestyle="none",
                marker="x" if dead else ".",
                markersize=4,
                markeredgewidth=0.8,
                color=shown.colour,
                alpha=0.4,
                zorder=1.5,
            )
        mean = means[means["objective"] == name].sort_values(column)
        axes.errorbar(
            mean[column].map(place),
            mean["mean"],
            mean["standard_error"].fillna(0),
            color=shown.colour,
            marker=shown.marker,
            capsize=2.5,
            label=shown.label,
        )
    axes.set_xticks(range(len(values)), [str(value) for value in values])
    axes.set_ylim(0, None)
