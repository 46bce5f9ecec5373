"""Figure 5: how unlikely OMD's small models are, and what they predict (section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from omd.analysis import claims
from omd.errors import InputError, in_a_line
from omd.figures.curves import draw_over_steps
from omd.figures.paper.swept import Data, best, describe, load
from omd.figures.style import (
    GREY,
    caption,
    look,
    new_figure,
    save,
    save_table,
    styled,
    watermark,
)
from omd.runs import files
from omd.sweeps.driver import Engine
from omd.sweeps.trained import Trained, Trajectory

SWEEPS = {
    "smoke": ("smoke-figure-5",),
    "quick": ("quick-figure-5",),
    "paper": ("paper-figure-4-left",),
}
NAME = "figure-5"
WIDTHS = (1, 3)
OBJECTIVES = ("omd", "mle")
WINDOW = 5
"""Evaluations that the drawn lines average over."""
TRIES = 8
"""Trained policies that are asked for an episode without a fall."""
SHOWN = 100
"""Steps of the episode that are drawn: the cart rocks from step to step, and more would blur."""
COORDINATES = {
    "CartPole-v1": ("cart position", "cart velocity", "pole angle", "pole angular velocity")
}


class Predictions(NamedTuple):
    """Next states along one trajectory, true and predicted, each [T, obs]."""

    true: np.ndarray
    by: dict[str, np.ndarray]
    """Objective to its model's predictions."""
    actor: str
    """Whose trajectory it is, for the caption."""


def make(
    out: Path,
    *,
    budget: str = "paper",
    sweeps: Sequence[str | Path] = (),
    engine: Engine = "local",
    workers: int | None = None,
    progress: bool = True,
) -> list[Path]:
    """Writes figure-5.png, .pdf, .csv, .json, the predictions and a table of claims.

    `sweeps` are folders to read; without any, the budget's sweep runs as far as it is missing.
    """
    data = load(5, SWEEPS, budget, sweeps, engine=engine, workers=workers, progress=progress)
    wanted = data.finals[
        data.finals["model_hidden"].isin(WIDTHS)
        & data.finals["objective"].isin(OBJECTIVES)
        & (data.finals["distractors"] == 0)
    ]
    if wanted.empty:
        raise InputError("no lane of OMD or MLE with a model of width 1 or 3 is finished yet")
    chosen = best(wanted, ["objective", "model_hidden", "distractors"])
    frame = data.frame.merge(chosen[["sweep", "lane"]], on=["sweep", "lane"])
    predictions = _predictions(data, chosen) or _published(data)
    if predictions is not None:
        data.record["actor"] = predictions.actor
    figure = _draw(data, chosen, frame, predictions, budget)
    columns = ["objective", "model_hidden", "seed", "step", "model_mse", "episode_return"]
    rows = frame.sort_values(["objective", "model_hidden", "seed", "step"])[columns]
    random = chosen.assign(
        objective="random",
        step=chosen["steps"],
        model_mse=chosen["random_model_mse"],
        episode_return=chosen["initial_return"],
    )
    random = random.drop_duplicates(["model_hidden", "seed"])
    rows = pd.concat([rows, random[columns]], ignore_index=True)
    paths = save(figure, out, NAME, rows.to_dict("records"), data.record)
    if predictions is not None:
        paths.append(save_table(_tidy(predictions), out / f"{NAME}-predictions.csv"))
    return [*paths, *claims.write(claims.of_figure(chosen, 5), out, f"{NAME}-claims")]


def _predictions(data: Data, chosen: pd.DataFrame) -> Predictions | None:
    """Of the best OMD and MLE lanes of width 1, along an episode of the best policy there is:
    the first of the best OMD lanes of width 1, then of all, that never falls."""
    if not all((sweep.path / "groups").exists() for sweep in data.sweeps):
        return None  # published results without what was learned
    narrow = chosen[chosen["model_hidden"] == 1].sort_values("final_return", ascending=False)
    models = {}
    for objective in OBJECTIVES:
        mine = narrow[narrow["objective"] == objective]
        if not mine.empty:
            models[objective] = Trained(data.sweeps[mine["sweep"].iloc[0]], mine["lane"].iloc[0])
    if not models:
        return None
    rest = chosen.sort_values("final_return", ascending=False)
    actors = pd.concat([narrow[narrow["objective"] == "omd"], rest]).drop_duplicates(
        ["sweep", "lane"]
    )
    found: tuple[float, Trajectory, str] | None = None
    for actor in actors.head(TRIES).itertuples():
        policy = Trained(data.sweeps[int(actor.sweep)], int(actor.lane))  # type: ignore[arg-type]
        episode = policy.episode()
        gained = float(episode.rewards.sum())
        name = (
            f"{look(str(actor.objective)).label}, width {actor.model_hidden}, seed {actor.seed}, "
        )
        name += f"return {gained:g}"
        if found is None or gained > found[0]:
            found = gained, episode, name
        if gained >= (policy.env.spec.max_episode_steps or np.inf):
            break
    assert found is not None
    _, trajectory, name = found
    by = {objective: model.predict(trajectory) for objective, model in models.items()}
    return Predictions(trajectory.next_observations, by, name)


def _published(data: Data) -> Predictions | None:
    """What an earlier figure 5 left beside a published sweep, in `figures` of the same folder."""
    folder = data.sweeps[0].path.parent / "figures"
    table, record = folder / f"{NAME}-predictions.csv", folder / f"{NAME}.json"
    if not table.exists() or not record.exists():
        return None
    actor = str(files.read_json(record).get("actor", "a trained policy"))
    try:
        frame = pd.read_csv(table)
        by = {
            str(source): part.pivot(
                index="step", columns="coordinate", values="next_state"
            ).to_numpy()
            for source, part in frame.groupby("source")
        }
        known = {name: by[name] for name in OBJECTIVES if name in by}
        return Predictions(by.pop("true"), known, actor)
    except Exception as error:  # whatever pandas makes of a damaged table
        raise files.FileError(f"{table} can't be read: {in_a_line(error)}") from error


def _tidy(found: Predictions) -> pd.DataFrame:
    """One row a step, coordinate and source (true, omd, mle)."""
    sources = {"true": found.true, **found.by}
    steps, size = found.true.shape
    return pd.DataFrame(
        [
            {"step": t, "coordinate": i, "source": name, "next_state": float(values[t, i])}
            for name, values in sources.items()
            for t in range(steps)
            for i in range(size)
        ]
    )


@styled
def _draw(
    data: Data,
    chosen: pd.DataFrame,
    frame: pd.DataFrame,
    predictions: Predictions | None,
    budget: str,
) -> Figure:
    widths = [w for w in WIDTHS if w in set(frame["model_hidden"])]
    columns = 4 if predictions else 2
    figure = new_figure(3.0 * columns, 5.2)
    grid = figure.add_gridspec(2, columns)
    for place, width in enumerate(widths):
        errors, returns = (figure.add_subplot(grid[place, i]) for i in range(2))
        part = frame[frame["model_hidden"] == width]
        for objective in OBJECTIVES:
            mine = part[part["objective"] == objective]
            if not mine.empty:
                name, colour = look(objective).label, look(objective).colour
                draw_over_steps(errors, mine, "model_mse", colour, name, WINDOW, centre="median")
                draw_over_steps(returns, mine, "episode_return", colour, name, WINDOW)
        random = chosen.loc[chosen["model_hidden"] == width, "random_model_mse"].median()
        errors.axhline(
            random, color="black", linestyle=(0, (4, 3)), linewidth=1, label="random model"
        )
        errors.set(yscale="log", title=f"model MSE, width {width}", xlabel="environment steps")
        returns.set(title=f"return, width {width}", xlabel="environment steps", ylim=(0, None))
        for axes in (errors, returns):
            axes.title.set_fontsize(9)
            axes.set_xlim(0, None)
    text = describe(data, chosen)
    text += f"Lines average {WINDOW} evaluations. Errors: median of the seeds, quartiles as band; "
    text += "returns: mean, standard error as band. "
    text += "Random: the untrained models on the transitions seen in training, median of lanes. "
    if predictions:
        names = COORDINATES.get(frame["env"].iloc[0], ())
        size = min(4, predictions.true.shape[1])
        for i in range(size):
            axes = figure.add_subplot(grid[i // 2, 2 + i % 2])
            title = names[i] if i < len(names) else f"coordinate {i}"
            _coordinate(axes, predictions, i, title)
        steps = len(predictions.true)
        drawn = f"the first {SHOWN} of {steps} steps of one" if steps > SHOWN else "one"
        text += f"Right: next states along {drawn} episode of the most probable actions "
        text += f"({predictions.actor}), predicted by the best lanes of width 1."
    caption(figure, text)
    _legend(figure)
    figure.tight_layout(rect=(0, 0.1, 1, 0.95))
    watermark(figure, budget)
    return figure


def _coordinate(axes: Axes, found: Predictions, i: int, title: str) -> None:
    axes.plot(
        found.true[:SHOWN, i],
        color=GREY,
        linewidth=2.2,
        alpha=0.6,
        label="true next state",
    )
    for objective, values in found.by.items():
        shown = look(objective)
        axes.plot(values[:SHOWN, i], color=shown.colour, linewidth=1, label=shown.label)
    axes.set(title=f"next {title}", xlabel="step of the episode")
    axes.title.set_fontsize(9)


def _legend(figure: Figure) -> None:
    """One for all panels, above them: no corner is free in each."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        entries = dict(zip(labels, handles, strict=True)) | entries
    figure.legend(
        entries.values(), entries, loc="upper center", ncols=len(entries), fontsize=8, frameon=False
    )
