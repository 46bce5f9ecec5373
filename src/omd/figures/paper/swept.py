"""What the figures of section 7 and appendix E share: their sweeps, and the choice of settings."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from omd import catalogue, parts
from omd.analysis.frames import final_returns, results
from omd.config import SETTINGS
from omd.errors import InputError, closest
from omd.sweeps import driver, race
from omd.sweeps.store import Sweep

BUDGETS = ("smoke", "quick", "paper")
GRID = ["inner_learning_rate", "tau"]
"""What appendix D sweeps at each point of a figure."""


class Data(NamedTuple):
    """Finished lanes of one or more sweeps."""

    frame: pd.DataFrame
    """As `omd.results` gives it, with a column `sweep`: which of `sweeps` a lane is from."""
    finals: pd.DataFrame
    """One row a lane, with `final_return`."""
    sweeps: list[Sweep]
    record: dict[str, Any]
    """What made the numbers: for the picture's JSON."""


def load(
    figure: int | str,
    names: Mapping[str, tuple[str, ...]],
    budget: str,
    folders: Sequence[str | pathlib.Path],
    *,
    engine: driver.Engine = "local",
    workers: int | None = None,
    progress: bool = True,
) -> Data:
    """The sweeps of a figure: those in `folders`, or the budget's own in sweeps/NAME, of which
    what is missing is run now. Raises `InputError` for folders that hold no finished lane."""
    closest("budget", budget, BUDGETS)
    if folders:
        sweeps = [Sweep(folder) for folder in folders]
    else:
        run = {"engine": engine, "workers": workers, "progress": progress}
        sweeps = [driver.run(name, **run) for name in names[budget]]  # type: ignore[arg-type]
        for sweep in sweeps:
            if failed := driver.failures(sweep):
                number, sentence = next(iter(failed.items()))
                raise InputError(f"group {number} of {sweep.path} failed: {sentence}")
    frames = [results(sweep.path).assign(sweep=i) for i, sweep in enumerate(sweeps)]
    frame = pd.concat(frames, ignore_index=True)
    finals = pd.concat(
        [final_returns(f).assign(sweep=i) for i, f in enumerate(frames)],
        ignore_index=True,
    )
    check_widths(figure, finals["model_hidden"])
    lanes = sum(len(sweep.lanes) for sweep in sweeps)
    if "purpose" in finals:  # results from before there were races have none
        chose = finals["purpose"] == race.CHOICE
        finals, lanes = finals[~chose].reset_index(drop=True), lanes - int(chose.sum())
    if finals.empty:
        raise InputError(
            f"no lane of {', '.join(str(s.path) for s in sweeps)} is finished yet (of a race none "
            "for the report)"
        )
    texts = _short_names(frame["objective"])
    frame, finals = (f.assign(objective=f["objective"].map(texts)) for f in (frame, finals))
    record = {
        "figure": figure,
        "sweeps": [{"name": s.name, "about": s.about, "provenance": s.provenance} for s in sweeps],
        "lanes": {
            "finished": int((finals["status"] == "finished").sum()),
            "diverged": int((finals["status"] == "diverged").sum()),
            "of": lanes,
        },
        "races": [race.budget(s.points) for s in sweeps if s.points],
        "objectives": {short: text for text, short in texts.items()},
        "settings": shared_settings(frame),
    }
    return Data(frame, finals, sweeps, record)


def check_widths(figure: int | str, widths: Iterable[Any]) -> None:
    """Raises `InputError` for a model whose layers differ: the figure's axis is one number."""
    for width in widths:
        if isinstance(width, str | tuple):
            text = width if isinstance(width, str) else parts.widths_text(width)
            raise InputError(
                f"figure {figure} draws models whose two hidden layers are alike, and model_hidden "
                f"of a lane is {text}: leave it out"
            )


def _short_names(objectives: pd.Series) -> dict[str, str]:
    """For the text of each objective what figures call it: its name alone, without settings, where
    only one of that name was run."""
    texts = sorted(set(objectives))
    names = [text.partition(":")[0] for text in texts]
    return {
        text: name if names.count(name) == 1 and name in catalogue.names("objective") else text
        for text, name in zip(texts, names, strict=True)
    }


def shared_settings(frame: pd.DataFrame) -> dict[str, Any]:
    """Settings of the lanes: a value, or a list of values where they differ."""
    found: dict[str, Any] = {}
    for name in SETTINGS:
        if name in frame:
            values = frame[name].dropna().unique().tolist()
            found[name] = values[0] if len(values) == 1 else values or None
    return found


def ordered(objectives: Iterable[str]) -> list[str]:
    """Each objective once, shipped ones in the catalogue's order, then one's own."""
    shipped = catalogue.names("objective")

    def place(text: str) -> tuple[int, str]:
        name = text.partition(":")[0]
        return (shipped.index(name) if name in shipped else len(shipped)), text

    return sorted(set(objectives), key=place)


def best(finals: pd.DataFrame, point: list[str]) -> pd.DataFrame:
    """The lanes of the setting of `GRID` with the highest mean final return at each point, as in
    appendix D; where a race has chosen there is only one. The choice looks at the seeds that are
    then shown, which favours each objective alike, and all of them where several settings were
    tried."""
    means = finals.groupby([*point, *GRID])["final_return"].mean().reset_index()
    chosen = means.sort_values("final_return").groupby(point, as_index=False).tail(1)
    return finals.merge(chosen[[*point, *GRID]], on=[*point, *GRID])


def describe(data: Data, chosen: pd.DataFrame) -> str:
    """Seeds, steps and settings, for a caption."""
    frame = data.frame
    seeds = chosen.groupby(
        [c for c in ("objective", "model_hidden", "distractors") if c in chosen]
    )["seed"].nunique()
    count = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    if "panel" in chosen and chosen["panel"].nunique() > 1:
        by_panel = chosen.groupby("panel")["seed"].nunique()
        count = " and ".join(f"{n} ({panel})" for panel, n in by_panel.items())
    steps = ", ".join(f"{s:,}" for s in sorted(frame["steps"].unique()))
    text = f"{count} seeds, {steps} steps; final return: mean of the last ten evaluations. "
    settings = [t for short, t in data.record["objectives"].items() if t != short]
    text += f"Objective {', '.join(settings)}. " if settings else ""
    tried = len(data.finals[GRID].drop_duplicates())
    rates = chosen.drop_duplicates(["objective", *GRID])
    if data.record["races"]:
        one = next(point.race for sweep in data.sweeps for point in sweep.points)
        text += f"{', '.join(one.over).replace('_', ' ')}: chosen at each point by a race, on "
        text += f"{one.first} and {one.more} other seeds. "
    elif tried > 1 and len(rates) > 3:
        text += f"Of {tried} settings (inner learning rate, τ) the best at each point, as in "
        text += "appendix D. "
    else:
        each = (
            f"{parts.label_of(str(r.objective))} {r.inner_learning_rate:g}, {r.tau:g}"
            for r in rates.itertuples()
        )
        text += f"Inner learning rate, τ: {'; '.join(each)}. "
    text += _diverged(chosen)
    missing = data.record["lanes"]["of"] - len(data.finals)
    return text + (f"{missing} lanes are still missing. " if missing else "")


def _diverged(chosen: pd.DataFrame) -> str:
    """How many of the lanes shown diverged, by what tells them apart."""
    lost = chosen[chosen["status"] == "diverged"]
    if lost.empty:
        return ""
    by = "variant" if "variant" in lost else "objective"
    each = ", ".join(f"{name} {count}" for name, count in lost.groupby(by).size().items())
    return f"Diverged, and shown: {len(lost)} of {len(chosen)} lanes ({each}). "
