"""Figure 7: inner steps, single Q-networks and inverse Jacobians in OMD (appendix E)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from omd.analysis import claims
from omd.analysis.statistics import aggregate
from omd.figures.curves import draw_over_steps
from omd.figures.paper.swept import Data, describe, load
from omd.figures.style import PALETTE, caption, new_figure, save, save_table, styled, watermark
from omd.sweeps.driver import Engine

SWEEPS = {
    "smoke": ("smoke-figure-7",),
    "quick": ("quick-figure-7",),
    "paper": ("paper-figure-7",),
}
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
    """Writes figure-7.png, .pdf, .csv, .json, a table of aggregates and one of claims.

    `sweeps` are folders to read; without any, the budget's sweep runs as far as it is missing.
    """
    data = load(7, SWEEPS, budget, sweeps, engine=engine, workers=workers, progress=progress)
    frame = data.frame.assign(variant=_variants(data.frame))
    frame = frame[frame["status"].isin(["finished", "diverged"])]
    finals = data.finals.assign(variant=_variants(data.finals))
    figure = _draw(data, frame, finals, budget)
    curves = frame.sort_values(["variant", "seed", "step"])
    rows = curves[["variant", "seed", "step", "episode_return"]].to_dict("records")
    paths = save(figure, out, "figure-7", rows, data.record)
    table = aggregate(finals, ["variant", "hypergradient"])
    paths.append(save_table(table, out / "figure-7-aggregates.csv"))
    return [*paths, *claims.write(claims.of_figure(finals, 7), out, "figure-7-claims")]


def _variants(frame: pd.DataFrame) -> pd.Series:
    """What each lane changes of the default."""

    def name(row: pd.Series) -> str:
        changes = []
        if row["inner_steps"] != 1:
            changes.append(f"K={row['inner_steps']}")
        if row["critics"] == 1:
            changes.append("single Q")
        if row["hypergradient"] != "identity":
            changes.append(row["hypergradient"].partition(":")[0])
        return ", ".join(changes) or "default"

    columns = ["inner_steps", "critics", "hypergradient"]
    kinds = frame[columns].drop_duplicates()
    kinds = kinds.assign(variant=kinds.apply(name, axis=1))
    return frame[columns].merge(kinds, on=columns, how="left")["variant"].set_axis(frame.index)


@styled
def _draw(data: Data, frame: pd.DataFrame, finals: pd.DataFrame, budget: str) -> Figure:
    figure = new_figure(10.4, 4.4)
    names = sorted(set(frame["variant"]) - {"default"})
    inner = [n for n in names if n.startswith("K=")]
    inner.sort(key=lambda n: int(n.removeprefix("K=")))
    single = [n for n in names if n == "single Q"]
    others = [n for n in names if n not in (*inner, *single)]
    panels = {
        ("inner steps K", "K=1 (default)"): inner,
        ("Q-networks", "double Q (default)"): single,
        ("inverse Jacobian", "identity (default)"): others,
    }
    for place, ((title, default), variants) in enumerate(panels.items()):
        axes = figure.add_subplot(1, 3, place + 1)
        styles = itertools.product(("-", "--", ":"), PALETTE)
        for variant, (line, colour) in zip(["default", *variants], styles, strict=False):
            part = frame[frame["variant"] == variant]
            if part.empty:
                continue
            label = default if variant == "default" else variant
            draw_over_steps(axes, part, "episode_return", colour, label, WINDOW, line=line)
        axes.set(xlabel="environment steps", title=title, ylim=(0, None), xlim=(0, None))
        axes.title.set_fontsize(9)
        if place == 0:
            axes.set_ylabel("return")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, fontsize=7)
    methods = [h for h in finals["hypergradient"].unique() if h != "identity"]
    text = describe(data, finals.assign(objective="omd"))
    text += f"OMD on {frame['env'].iloc[0]}, model of {frame['model_hidden'].iloc[0]} units. "
    text += f"Lines: mean of {WINDOW} evaluations and over seeds; bands: standard error. "
    text += f"Inverse Jacobians: {'; '.join(methods)}." if methods else ""
    caption(figure, text)
    figure.tight_layout(rect=(0, 0.11, 1, 1))
    watermark(figure, budget)
    return figure
