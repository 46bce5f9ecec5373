"""Objectives side by side: scores over all tasks, against misspecification, and profiles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from omd.analysis import aggregates
from omd.config import SETTINGS
from omd.errors import InputError
from omd.figures.paper.swept import best, describe, load, ordered
from omd.figures.style import caption, look, new_figure, save, save_table, styled
from omd.runs import files

THRESHOLDS = np.linspace(0, 1, 41)


def make(out: Path, *, sweeps: Sequence[str | Path] = ()) -> list[Path]:
    """Writes compare.png, .pdf, .csv, .json, tables of interquartile means, of the probability of
    improvement and of profiles, and the scores for rliable (.npz) and marl-eval (.json).

    Raises `InputError` without sweeps, and where objectives don't share their tasks.
    """
    if not sweeps:
        raise InputError("figure compare is drawn from sweeps: give --sweep FOLDER, one or more")
    data = load("compare", {}, "paper", sweeps)
    finals = data.finals
    if "distractor_kind" not in finals:
        finals = finals.assign(distractor_kind="noise")
    chosen = best(finals, ["objective", *aggregates.TASK])
    _check_alike(chosen)
    found, ends = aggregates.scores(chosen)
    names = ordered(found)
    tasks = aggregates.tasks(chosen)
    means = pd.DataFrame(
        [
            {
                "objective": name,
                "tasks": len(tasks),
                "runs": sum(x.size for x in found[name]),
                **aggregates.iqm(found[name])._asdict(),
            }
            for name in names
        ]
    )
    by_task = pd.DataFrame(
        [
            {
                "objective": name,
                **dict(zip(aggregates.TASK, task, strict=True)),
                "runs": mine.size,
                **aggregates.iqm([mine])._asdict(),
            }
            for name in names
            for task, mine in zip(tasks, found[name], strict=True)
        ]
    )
    improvements = pd.DataFrame(
        [
            {"objective": a, "over": b, **aggregates.improvement(found[a], found[b])._asdict()}
            for a in names
            for b in names
            if a != b
        ],
        columns=["objective", "over", *aggregates.Interval._fields],
    )
    profiles = pd.concat(
        [aggregates.profile(found[n], THRESHOLDS).assign(objective=n) for n in names],
        ignore_index=True,
    )
    text = describe(data, chosen)
    figure = _draw(names, means, by_task, improvements, profiles, text)
    columns = ["objective", *aggregates.TASK, "seed", "final_return", "best_window_return"]
    record = {**data.record, "scale": ends}
    paths = save(figure, out, "compare", chosen[columns].to_dict("records"), record)
    for name, table in (
        ("aggregates", means),
        ("tasks", by_task),
        ("improvement", improvements),
        ("profiles", profiles),
    ):
        paths.append(save_table(table, out / f"compare-{name}.csv"))
    exports = out / "compare-rliable.npz", out / "compare-marl-eval.json"
    with files.atomic(exports[0]) as temporary, temporary.open("wb") as file:
        np.savez(file, **aggregates.rliable(found))  # type: ignore[arg-type]
    content = aggregates.marl_eval(
        data.frame.assign(distractor_kind=data.frame.get("distractor_kind", "noise")), chosen
    )
    with files.atomic(exports[1]) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
    return [*paths, *exports]


def _check_alike(chosen: pd.DataFrame) -> None:
    """Raises `InputError` where runs of an objective at a task differ in more than their seed."""
    settings = [n for n in SETTINGS if n in chosen and n not in ("seeds", "objective")]
    for (objective, *task), part in chosen.groupby(["objective", *aggregates.TASK]):
        for name in settings:
            values = part[name].drop_duplicates().astype(str).tolist()
            if len(values) > 1:
                raise InputError(
                    f"runs of objective {objective!r} at {aggregates.name_of(task)} differ in "
                    f"{name} ({', '.join(values)}): give sweeps with one value for each objective"
                )


@styled
def _draw(
    names: list[str],
    means: pd.DataFrame,
    by_task: pd.DataFrame,
    improvements: pd.DataFrame,
    profiles: pd.DataFrame,
    text: str,
) -> Figure:
    figure = new_figure(13, 2.6 + 0.28 * len(names))
    over_all, tasks, better, shares = (figure.add_subplot(1, 4, i) for i in range(1, 5))
    _bars(over_all, names, means)
    _tasks(tasks, names, by_task)
    over = "mle" if "mle" in names else names[0]
    mine = improvements[improvements["over"] == over]
    _bars(better, names, mine)
    better.axvline(0.5, color="black", linewidth=0.8)
    better.set(xlim=(0, 1), yticklabels=[])
    better.set_title(f"probability of improvement over {look(over).label}", fontsize=8, loc="left")
    over_all.set_title("interquartile mean of scores", fontsize=8, loc="left")
    for name in names:
        part = profiles[profiles["objective"] == name]
        shares.plot(part["score"], part["share"], color=look(name).colour, label=look(name).label)
        shares.fill_between(
            part["score"],
            part["low"],
            part["high"],
            color=look(name).colour,
            alpha=0.15,
            linewidth=0,
        )
    shares.set(xlabel="score", ylim=(0, 1))
    shares.set_title("share of runs above a score", fontsize=8, loc="left")
    caption(
        figure,
        text + "Score: 0 the untrained policies' mean return, 1 the highest mean of an objective "
        "on the environment. Bars and bands: 95 % by bootstrap within tasks.",
    )
    figure.tight_layout(rect=(0, 0.16, 1, 1))
    return figure


def _bars(axes: Axes, names: list[str], table: pd.DataFrame) -> None:
    for place, name in enumerate(reversed(names)):
        for row in table[table["objective"] == name].to_dict("records"):
            axes.plot(
                [row["low"], row["high"]],
                [place] * 2,
                color=look(name).colour,
                linewidth=6,
                alpha=0.35,
                solid_capstyle="butt",
            )
            axes.plot(row["estimate"], place, look(name).marker, color=look(name).colour)
    axes.set_yticks(range(len(names)), [look(n).label for n in reversed(names)], fontsize=8)
    axes.set_ylim(-0.6, len(names) - 0.4)


def _tasks(axes: Axes, names: list[str], by_task: pd.DataFrame) -> None:
    """The interquartile mean of each task, tasks in their order."""
    several = by_task["env"].nunique() > 1
    labels: list[str] = []
    for name in names:
        rows = by_task[by_task["objective"] == name]
        tasks = list(rows[list(aggregates.TASK)].itertuples(index=False, name=None))
        labels = [(f"{task[0]}, " if several else "") + aggregates.name_of(task) for task in tasks]
        axes.plot(
            range(len(rows)),
            rows["estimate"],
            marker=look(name).marker,
            color=look(name).colour,
            linewidth=1,
        )
    axes.set_xticks(range(len(labels)), labels, fontsize=6, rotation=60, ha="right")
    axes.set_title("by task", fontsize=8, loc="left")
