"""Figure 8: continuous control with small models, and with distractors (appendix F)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from omd import parts
from omd.analysis.frames import results
from omd.errors import InputError
from omd.figures.paper.swept import check_widths, ordered
from omd.figures.style import caption, literal, look, new_figure, save, styled
from omd.runs.rows import settings_row
from omd.runs.run import LAST, Run, load
from omd.sweeps import race
from omd.sweeps.store import Sweep

PANELS = {"left": "model_hidden", "right": "distractors"}
COLUMNS = ["panel", "objective", "model_hidden", "distractors", "seed", "step", "episode_return"]
SHARED = ("env", "learner", "steps", "evaluate_every", "batch_size")
OWN: dict[str, Callable[[Any], bool]] = {
    "inner_learning_rate": lambda objective: True,
    "tau": lambda objective: True,
    "inner_steps": lambda objective: True,
    "learning_rate": lambda objective: objective.uses_model,
    "model_output": lambda objective: objective.uses_model,
    "hypergradient": lambda objective: objective.implicit,
}
"""Settings that each objective may have its own of, and which objectives they concern."""
WIDTH = 64
"""Of the models that meet distractors, as in appendix F."""
DASHES = ("-", "--", ":", "-.")


def make(
    out: Path, *, runs: Sequence[str | Path] = (), sweeps: Sequence[str | Path] = ()
) -> list[Path]:
    """Writes figure-8.png, .pdf, .csv (a line an evaluation) and .json from folders of runs and
    sweeps.

    Runs of one objective, width and number of distractors are pooled. Plain SAC (`none`) has no
    width: it is a line across the left panel. An objective with several hypergradients has a curve
    for each. Of a sweep's race the lanes of the report are drawn. Settings that objectives don't
    share are named in the caption. Raises `InputError` where there are no numbers, where runs
    differ in what the figure doesn't show, or hold the same seed of the same point twice.
    """
    if not (runs or sweeps):
        raise InputError(
            "figure 8 and --run FOLDER go together: give the folders of runs, or --sweep FOLDER"
        )
    loaded, raced = [load(folder) for folder in runs], [Sweep(folder) for folder in sweeps]
    frame = _frame(loaded, raced)
    panels = pd.concat([_panel_of(frame, panel) for panel in PANELS], ignore_index=True)
    figure = _draw(panels, frame, _settings_noted(frame) + _unfinished(loaded, raced))
    record = {
        "figure": 8,
        "runs": [{"name": run.folder.name, "settings": run.config.to_dict()} for run in loaded],
        "sweeps": [{"name": s.name, "about": s.about, "provenance": s.provenance} for s in raced],
    }
    rows: Any = panels[COLUMNS].to_dict("records")
    return save(figure, out, "figure-8", rows, record)


def _frame(runs: Sequence[Run], sweeps: Sequence[Sweep] = ()) -> pd.DataFrame:
    """All evaluations of all runs and of the sweeps' lanes, with their settings beside them."""
    frames = []
    for run in runs:
        frames.append(run.metrics.assign(**_shown(settings_row(run.config, 0, 0))))
    for sweep in sweeps:
        lanes: Any = results(sweep.path)
        if "purpose" in lanes:  # results from before there were races have none
            lanes = lanes[lanes["purpose"] != race.CHOICE]
        settings = [_shown(row) for row in lanes.to_dict("records")]
        measured = lanes[["seed", "step", "episode_return"]]
        frames.append(measured.join(pd.DataFrame(settings, lanes.index)))
    chosen = {name for sweep in sweeps for point in sweep.points for name in point.race.over}
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({"step": []})
    frame = frame[frame["step"] > 0].reset_index(drop=True)
    if frame.empty:
        raise InputError("no run with an evaluation: give figure 8 the folders of trained runs")
    several = frame.groupby("objective")["hypergradient"].transform("nunique") > 1
    frame["variant"] = frame["hypergradient"].where(several, "")
    frame.attrs["chosen"] = sorted(chosen)
    for name in (*SHARED, *OWN):
        if name in chosen:
            continue
        concerned = frame[frame["objective"].map(lambda text, n=name: _concerns(n, text))]
        groups: Any = [(("", ""), concerned)]
        if name in OWN:
            groups = concerned.groupby(["objective", "variant"])
        for (objective, _), rows in groups:
            if rows[name].nunique() > 1:
                values = ", ".join(map(str, sorted(rows[name].unique())))
                of = f" of objective {objective!r}" if objective else ""
                raise InputError(
                    f"{name} differs between the runs{of} ({values}), which figure 8 doesn't "
                    "show: give runs that share it"
                )
    frame["model_hidden"] = frame["model_hidden"].astype("Int64")
    twice = frame.duplicated(
        ["objective", "variant", "model_hidden", "distractors", "seed", "step"]
    )
    if twice.any():
        first: Any = frame[twice].iloc[0]
        raise InputError(
            f"seed {first['seed']} of objective {first['objective']!r}, width "
            f"{first['model_hidden']}, "
            f"{first['distractors']} distractors is in two runs: give each once"
        )
    return frame


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a lane that the figure looks at; plain SAC has no model's width."""
    found = {name: row[name] for name in (*SHARED, *OWN, "objective", "distractors")}
    width = row["model_hidden"]
    check_widths(8, [width])
    modelled = parts.part_of("objective", row["objective"]).uses_model
    return {**found, "model_hidden": width if modelled else pd.NA}


def _unfinished(runs: Sequence[Run], sweeps: Sequence[Sweep]) -> str:
    """What isn't there yet, in a sentence."""
    found = [f"{r.folder.name} is at step {r.step:,}" for r in runs if not r.finished]
    for sweep in sweeps:
        states = results(sweep.path).drop_duplicates("lane")["status"]
        missing = len(sweep.lanes) - int(states.isin(["finished", "diverged"]).sum())
        found += [f"{missing} lanes of {sweep.name}"] if missing else []
    return f" Unfinished: {', '.join(found)}." if found else ""


def _settings_noted(frame: pd.DataFrame) -> str:
    """The settings that objectives don't share, and a hypergradient other than the paper's."""
    sentences = []
    chosen = frame.attrs.get("chosen", [])
    if chosen:
        names = ", ".join(chosen).replace("_", " ")
        sentences.append(f" {names}: chosen at each point by a race, on other seeds.")
    for name in OWN:
        if name in chosen or (name == "hypergradient" and frame["variant"].any()):
            continue
        each = frame.drop_duplicates("objective")
        rows = each[each["objective"].map(lambda text, n=name: _concerns(n, text))]
        values = rows.groupby(name)["objective"].apply(lambda part: " and ".join(map(_name, part)))
        if len(values) > 1 or (name == "hypergradient" and "identity" not in values.index):
            notes = "; ".join(f"{value} ({names})" for value, names in values.items())
            sentences.append(f" {name.replace('_', ' ')}: {notes}." if notes else "")
    return "".join(sentences)


def _concerns(setting: str, objective: str) -> bool:
    """Whether a setting means something to an objective."""
    return setting not in OWN or OWN[setting](parts.part_of("objective", objective))


def _panel_of(frame: pd.DataFrame, panel: str) -> pd.DataFrame:
    plain = frame["model_hidden"].isna()
    if panel == "left":
        rows = frame[frame["distractors"] == 0]
    else:
        rows = frame[plain | (frame["model_hidden"] == WIDTH)]
    keys = ["objective", "variant", "model_hidden", "distractors", "seed", "step"]
    return rows.assign(panel=panel).sort_values(keys)


@styled
def _draw(panels: pd.DataFrame, frame: pd.DataFrame, notes: str) -> Figure:
    figure = new_figure(8.8, 6.6)
    axes = figure.subplots(2, 2)
    labels = {"left": "units in the model's hidden layers", "right": "distractors"}
    titles = {"left": "small models", "right": "noise in the state"}
    for column, panel in enumerate(PANELS):
        rows = panels[panels["panel"] == panel]
        top, bottom = axes[0, column], axes[1, column]
        _points(top, rows, PANELS[panel])
        top.set_xlabel(labels[panel])
        title = literal(f"{titles[panel]}, {frame['env'].iloc[0]}")
        top.set_title(title, fontsize=9, loc="left")
        _curves(bottom, rows, PANELS[panel])
        bottom.set_xlabel("environment steps")
    axes[0, 0].set_ylabel("final return")
    axes[1, 0].set_ylabel("return")
    steps = frame["steps"].iloc[0]
    caption(
        figure,
        f"{steps:,} steps; {_seeds(panels)}; final return: mean of the last {LAST} evaluations. "
        "Points: mean ± standard error; dots: seeds. Curves: mean over seeds and one standard "
        f"error, at the {WIDTH} units wide model on the right.{notes}",
    )
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    return figure


def _seeds(panels: pd.DataFrame) -> str:
    counts = panels.groupby(["variant", *COLUMNS[1:4]], dropna=False)["seed"].nunique()
    low, high = int(counts.min()), int(counts.max())
    if low < high:
        return f"{low} to {high} seeds"
    return "1 seed" if high == 1 else f"{high} seeds"


def _name(objective: str, variant: str = "") -> str:
    if not parts.part_of("objective", objective).uses_model:
        return "SAC, no model"
    return look(objective).label + (f", {variant.partition(':')[0]}" if variant else "")


def _curves_of(rows: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Each objective with each of its hypergradients, and how it is marked: "" for the first."""
    found = []
    for name in ordered(rows["objective"]):
        variants = sorted(rows.loc[rows["objective"] == name, "variant"].unique(), reverse=True)
        found += [(name, variant, "open" if i else "") for i, variant in enumerate(variants)]
    return found


def _points(axes: Axes, rows: pd.DataFrame, column: str) -> None:
    """Final return of each point, in equal steps along the axis."""
    values = sorted(rows[column].dropna().unique())
    place = {value: i for i, value in enumerate(values)}
    in_time = rows.sort_values("step")
    keys = ["objective", "variant", "model_hidden", "distractors", "seed"]
    tails = in_time.groupby(keys, dropna=False).tail(LAST)
    finals = tails.groupby(keys, dropna=False)["episode_return"].mean().reset_index()
    curves = _curves_of(finals)
    for i, (name, variant, mark) in enumerate(curves):
        part = finals[(finals["objective"] == name) & (finals["variant"] == variant)]
        label = _name(name, variant)
        colour = look(name).colour
        if part[column].isna().all():
            axes.axhline(
                part["episode_return"].mean(),
                color=colour,
                linestyle="--",
                linewidth=1.2,
                label=label,
            )
            continue
        shift = 0.1 * (i - (len(curves) - 1) / 2)
        groups = part.groupby(column)["episode_return"]
        mean, error = groups.mean(), groups.sem().fillna(0)
        places = part[column].map(place).to_numpy(float) + shift
        axes.plot(
            places,
            part["episode_return"],
            linestyle="none",
            marker=".",
            markersize=4,
            color=colour,
            alpha=0.4,
            zorder=1.5,
        )
        axes.errorbar(
            [place[value] + shift for value in mean.index],
            mean.to_numpy(float),
            error.to_numpy(float),
            color=colour,
            marker=look(name).marker,
            markerfacecolor="white" if mark else look(name).face,
            linestyle="--" if mark else "-",
            capsize=2.5,
            label=label,
        )
    axes.set_xticks(range(len(values)), [str(value) for value in values])
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.legend(loc="best")


def _curves(axes: Axes, rows: pd.DataFrame, column: str) -> None:
    """Return over steps, one line a point; colours are objectives, dashes the axis above."""
    values = sorted(rows[column].dropna().unique())
    dash = {value: DASHES[i % len(DASHES)] for i, value in enumerate(values)}
    marks = {(name, variant): mark for name, variant, mark in _curves_of(rows)}
    points: Any = rows.groupby(["objective", "variant", column], dropna=False)
    for (name, variant, value), part in points:
        colour = look(name).colour
        wide = part.pivot(index="step", columns="seed", values="episode_return").dropna()
        mean = wide.mean(axis=1)
        known = "" if pd.isna(value) else f", {value}"
        axes.plot(
            wide.index,
            mean,
            color=colour,
            linestyle=dash.get(value, "-"),
            linewidth=0.8 if marks[name, variant] else None,
            label=_name(name, variant) + known,
        )
        if wide.shape[1] > 1:
            error = wide.std(axis=1, ddof=1) / np.sqrt(wide.shape[1])
            axes.fill_between(
                wide.index, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0
            )
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}")
    axes.legend(loc="best", fontsize=7)
