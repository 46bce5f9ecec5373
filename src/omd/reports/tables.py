"""What the command line prints: tables of runs and evaluations, lists of what there is."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import rich.console
import rich.table
from rich.markup import escape

from omd import catalogue, parts
from omd.config import env_text
from omd.errors import InputError, closest
from omd.runs import symptoms

if TYPE_CHECKING:
    import pandas as pd

    from omd.runs.run import Run
    from omd.sweeps.store import Sweep


def mean_and_error(values: pd.Series) -> str:
    """Mean ± standard error."""
    if len(values) < 2:
        return f"{values.mean():.1f}"
    return f"{values.mean():.1f} ± {values.std(ddof=1) / math.sqrt(len(values)):.1f}"


def show(run: Run) -> None:
    """The table at the end of a run, and where its picture is; on standard error, signs that
    training goes wrong."""
    from omd.runs.run import LAST

    console = rich.console.Console()
    returns, diverged = run.final_returns(), run.diverged()
    table = rich.table.Table(title=escape(f"{run.config.label} on {env_text(run.config.env)}"))
    table.add_column("seed", justify="right")
    table.add_column("return (last 10 evaluations)", justify="right")
    table.add_column("model MSE", justify="right")
    table.add_column("status")
    last = run.metrics[run.metrics["step"] == run.step].set_index("seed")
    for seed, value in returns.items():
        mse = last["model_mse"].get(seed, math.nan) if "model_mse" in last else math.nan
        status = f"diverged at step {diverged[seed]}" if seed in diverged else "ok"
        table.add_row(str(seed), f"{value:.1f}", f"{mse:.3g}", status)
    table.add_section()
    spread = f"{len(returns)} seeds, ± standard error" if len(returns) > 1 else "1 seed"
    if returns.isna().any():
        spread = f"of the {returns.notna().sum()} seeds of {len(returns)} that have a return"
    table.add_row("mean", mean_and_error(returns), "", spread)
    console.print(table)
    for seed, sentence in run.divergences().items():
        console.print(f"seed {seed}: {sentence}", soft_wrap=True, highlight=False, markup=False)
    for sentence in symptoms.sentences(run.metrics, last=LAST):
        print(f"omd: {sentence}", file=sys.stderr)
    if (picture := run.folder / "learning-curve.png").exists():
        console.print(f"picture: {picture}", soft_wrap=True, highlight=False, markup=False)


def show_plan(spec, options, workers: int | None, group_size: int | None) -> None:
    """What a sweep would do: groups, lanes, FLOPs, memory, time."""
    from omd.sweeps import driver, race, screen

    wanted = driver.resolve(spec, options)
    lanes = race.expected(wanted.points, wanted.lanes)
    machine, groups, seconds, _ = driver.plan(
        lanes, workers=workers, group_size=group_size, timed=True
    )
    screen.show_plan(wanted.name, lanes, groups, seconds, machine)
    if wanted.points:
        print(race.budget(wanted.points))


def show_sweep(sweep: Sweep) -> int:
    """What came of a sweep; the exit code."""
    from omd.analysis import frames
    from omd.sweeps import collect, driver

    console = rich.console.Console(highlight=False, markup=False)
    frame = frames.results(sweep.path)
    counts = frame.drop_duplicates("lane")["status"].value_counts()
    states = ", ".join(f"{count} {status}" for status, count in counts.items())
    console.print(f"{sweep.name}: {len(sweep.lanes)} lanes, {states}", soft_wrap=True, markup=False)
    console.print(f"results: {sweep.path / collect.RESULTS}", soft_wrap=True, markup=False)
    failed = driver.failures(sweep)
    for index, sentence in failed.items():
        print(f"omd: group {index} failed: {sentence}", file=sys.stderr)
    if failed:
        return 1
    if driver.missing(sweep):
        console.print(f"stopped; go on with: omd sweep {sweep.path}", soft_wrap=True, markup=False)
        return 130
    return 0


def track(*, shown: bool) -> Callable[[Iterable[int]], Iterable[int]]:
    """Goes through steps, with a bar where `shown`."""
    if not shown:
        return iter
    import rich.progress

    console = rich.console.Console(stderr=True)
    return lambda steps: rich.progress.track(steps, "drawing", console=console, transient=True)


def show_evaluation(frame: pd.DataFrame, episodes: int) -> None:
    table = rich.table.Table(title=f"{episodes} episodes of each seed")
    for column in ("seed", "return", "length"):
        table.add_column(column, justify="right")
    for row in frame.itertuples():
        table.add_row(str(row.seed), f"{row.episode_return:.1f}", f"{row.episode_length:.1f}")
    table.add_section()
    table.add_row("mean", mean_and_error(frame["episode_return"]), "")
    rich.console.Console().print(table)


SECTIONS = {"environments": "environment", "runs": "run", **{f"{k}s": k for k in catalogue.BASES}}
"""What `omd list` shows: the word for all of a kind, and for one of it."""


def listing(what: str | None, name: str | None, out: pathlib.Path) -> None:
    """Print what there is of one kind, or of each; or the settings of one part."""
    console = rich.console.Console(highlight=False)
    plural = {one: many for many, one in SECTIONS.items()}
    if what is not None:
        kind = SECTIONS.get(what) or closest("section", what, plural)
        if name is not None:
            if kind not in catalogue.BASES:
                raise InputError(f"{kind} has no settings to list: leave {name!r} out")
            _show_part(console, kind, name)
            return
    for section in SECTIONS if what is None else (plural[kind],):
        lines = _lines(section, out, brief=what is None)
        console.print(f"[bold]{section}")
        for line in lines:
            console.print(f"  {line}", soft_wrap=True, markup=False)


def _lines(section: str, out: pathlib.Path, *, brief: bool) -> list[str]:
    if section == "environments":
        return _environments(brief=brief)
    if section == "runs":
        return _runs(out)
    entries = catalogue.entries(SECTIONS[section]).values()
    return [f"{entry.name}: {entry.purpose}{_origin(entry, brief=brief)}" for entry in entries]


def _origin(entry: catalogue.Entry, *, brief: bool) -> str:
    """What a part needs and where it comes from, in a list of one kind."""
    words = [f"needs {entry.needs}"] if entry.needs else []
    words += [f"from {entry.source}"] if entry.source else []
    return f" ({'; '.join(words)})" if words and not brief else ""


def _show_part(console: rich.console.Console, kind: str, text: str) -> None:
    """A part's purpose, and its settings with their defaults and limits."""
    name, _ = parts.split(kind, text)
    entry = catalogue.entries(kind).get(name)
    cls = parts.named(kind, entry.where if entry else name)
    words = entry.purpose if entry else (cls.__doc__ or "").strip().partition("\n")[0]
    console.print(f"{kind} {name}: {words}", soft_wrap=True, markup=False)
    if entry:
        console.print(f"class: {entry.where}", soft_wrap=True, markup=False)
        for name, words in (("needs", entry.needs), ("source", entry.source)):
            if words:
                console.print(f"{name}: {words}", soft_wrap=True, markup=False)
    settings = parts.settings_of(cls)
    if not settings:
        console.print("no settings of its own")
        return
    table = rich.table.Table()
    for column in ("setting", "default", "values", "what it is"):
        table.add_column(column)
    for one in settings:
        values = " or ".join(map(str, one.choices)) or f"{one.type} {one.limits}".strip()
        default = "must be given" if one.default is dataclasses.MISSING else str(one.default)
        words = str(one.metadata.get("help", ""))
        table.add_row(*map(escape, (one.name, default, values, words)))
    console.print(table)


def _environments(*, brief: bool) -> list[str]:
    from omd import envs

    lines = []
    for backend, ids in envs.available().items():
        shown = ids[:12] if brief else ids
        label = f"{backend} (as {backend}:ID)" if backend == "mjx" else backend
        more = f", … ({len(ids)}; `omd list environments`)" if len(shown) < len(ids) else ""
        lines.append(f"{label}: {', '.join(shown)}{more}")
    return lines


def _runs(out: pathlib.Path) -> list[str]:
    from omd.runs.run import load

    if out.exists() and not out.is_dir():
        raise InputError(f"out is {str(out)!r}, which is no folder: name the one that holds runs")
    lines = []
    names = ("config.json", "metrics.parquet", "checkpoint.safetensors")
    for path in sorted({file.parent for name in names for file in out.glob(f"*/{name}")}):
        try:
            run = load(path)
        except InputError as error:  # the others are fine
            lines.append(f"{path}: can't be used: {error}")
            continue
        state = "finished" if run.finished else f"at step {run.step} of {run.config.steps}"
        figures = "" if run.metrics.empty else f", return {mean_and_error(run.final_returns())}"
        lines.append(
            f"{run.folder}: {parts.text_of(run.config.objective)} on "
            f"{env_text(run.config.env)}, {state}{figures}"
        )
    return lines or [f"none in {out}"]


def gradcheck(problem: str | None) -> None:
    """Print the comparison of hypergradients on one problem of the zoo, or on all."""
    import jax

    from omd.implicit import problems

    names = problems.names()
    wanted = names if problem is None else (closest("problem", problem, names),)
    with jax.enable_x64(True):
        for name in wanted:
            print(f"{name}\n{problems.get(name).check().table()}\n")
