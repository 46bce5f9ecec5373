"""The page's content, read from what sweeps and figures have written; the template lays it out."""

from __future__ import annotations

import base64
import importlib.resources
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jinja2
import markupsafe
import pandas as pd

from omd import parts
from omd.analysis import frames
from omd.analysis.statistics import aggregate
from omd.errors import InputError, in_a_line
from omd.figures import learning_curve, overview, shipped
from omd.figures.paper.swept import shared_settings
from omd.reports.paper_settings import differences
from omd.runs import files, stored, symptoms
from omd.runs.run import Run, load
from omd.sweeps import driver
from omd.sweeps.store import SWEEP, Sweep

PAGE = "report.html"
ROWS = 200
"""Of a table that is shown; the rest stays in the files."""


def write(folder: str | os.PathLike, out: str | os.PathLike | None = None) -> pathlib.Path:
    """Write the page of a run's, a sweep's or a figures' folder, by default into it as report.html.

    Raises `InputError` for a folder that holds none of them.
    """
    folder = parts.path("folder", folder)
    path = folder / PAGE if out is None else parts.path("out", out)
    if out is not None:
        files.check_new_file(path)
    elif folder.is_dir():
        files.check_writable(folder)
    if (folder / stored.CONFIG).exists():
        content = of_run(load(folder))
    elif (folder / SWEEP).exists():
        content = of_sweep(Sweep(folder))
    elif figures := _records(folder):
        content = of_figures(folder, figures)
    else:
        raise InputError(
            f"{folder} holds no {stored.CONFIG}, no {SWEEP} and no figure with its .json: name the "
            "folder of a run or a sweep, or one that `omd figure` wrote"
        )
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    html = environment.get_template("report.html.j2").render(**content)
    with files.atomic(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return path


def _template(name: str) -> str:
    return (importlib.resources.files(__package__) / name).read_text("utf-8")


def _records(folder: pathlib.Path) -> list[pathlib.Path]:
    """The JSON of each figure in a folder: of the paper's, and of those that have names."""
    known = [*folder.glob("figure-*.json"), *(folder / f"{n}.json" for n in shipped.places())]
    return sorted(path for path in known if path.exists())


def of_run(run: Run) -> dict[str, Any]:
    """Content of a run's page: how far it is, what came out by seed, its policy, its settings."""
    settings = run.config.to_dict()
    env, seeds = settings["env"], settings["seeds"]
    plain = settings | {"seeds": len(seeds)}
    problems: list[str] = []
    sections: list[dict[str, Any]] = []
    if not run.metrics.empty:
        sections.append(
            {
                "title": "Learning",
                "text": "Each faint line is a seed.",
                "pictures": _drawn(
                    problems, lambda: learning_curve.picture(run.metrics, run.config)
                ),
                "tables": [_table(_by_seed(run), "by seed")],
            }
        )
    film, moving = run.folder / "policy.gif", []
    if film.exists():
        try:
            moving = [_inline(film.read_bytes(), "gif")]
        except OSError as error:
            problems.append(f"{film.name} can't be read: {in_a_line(error)}")
    hint = "No film yet: omd watch, with this folder, draws one, and the next report shows it."
    sections.append(
        {"title": "Policy", "text": "" if moving else hint, "pictures": moving, "tables": []}
    )
    if not run.finished:
        problems.append(f"stopped at step {run.step:,} of {settings['steps']:,}")
    reasons = run.divergences()
    for seed, step in run.diverged().items():
        reason = reasons.get(seed, "its numbers stopped being finite")
        problems.append(f"seed {seed} diverged, seen at step {step:,}: {reason}")
    problems += symptoms.sentences(run.metrics)
    history, sessions = run.folder / "provenance.json", []
    if history.exists():
        sessions = files.read_json(history, sessions=list)["sessions"]
    else:
        problems.append(f"{history.name} is missing: nobody knows what the run was made with")
    return {
        "title": f"{run.config.label} on {env}",
        "about": f"{run.folder.name}: {len(seeds)} seed{'s' * (len(seeds) > 1)}, "
        f"{run.step:,} environment steps each.",
        "facts": ["finished" if run.finished else "not finished", *_fact(run)],
        "problems": problems,
        "sections": sections,
        "settings": {name: _shown(value) for name, value in settings.items()},
        "differences": differences(plain) if env == "CartPole-v1" else [],
        "versions": _versions(sessions[-1]) if sessions else {},
    }


def _drawn(problems: list[str], draw: Callable[[], bytes]) -> list[str]:
    """A picture; where it can't be drawn, none, and one problem more."""
    try:
        return [_inline(draw(), "png")]
    except Exception as error:  # whatever matplotlib says
        problems.append(f"a picture couldn't be drawn: {in_a_line(error)}")
        return []


def _fact(run: Run) -> list[str]:
    """The final return, where there is one."""
    finals = run.final_returns().dropna() if not run.metrics.empty else pd.Series(dtype=float)
    if finals.empty:
        return []
    error = finals.std(ddof=1) / math.sqrt(len(finals)) if len(finals) > 1 else None
    return [f"return {finals.mean():.1f}" + (f" ± {error:.1f}" if error is not None else "")]


def _by_seed(run: Run) -> pd.DataFrame:
    """A row a seed: what it earned, how far its model is off, how it ended."""
    diverged = run.diverged()
    rows = []
    for seed, value in run.final_returns().items():
        mine = run.metrics[run.metrics["seed"] == seed].sort_values("step")
        error = mine["model_mse"].dropna() if "model_mse" in mine else pd.Series(dtype=float)
        dead = mine["dead_units"].dropna() if "dead_units" in mine else pd.Series(dtype=float)
        rows.append(
            {
                "seed": seed,
                "return (last 10 evaluations)": float(value),
                "best evaluation": float(mine["episode_return"].max()),
                "model error at the end": float(error.iloc[-1]) if len(error) else math.nan,
                "dead units, first and last": f"{dead.iloc[0]:.0f}, {dead.iloc[-1]:.0f}"
                if len(dead)
                else math.nan,
                "status": f"diverged at step {diverged[seed]:,}" if seed in diverged else "ok",
            }
        )
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def of_sweep(sweep: Sweep) -> dict[str, Any]:
    """Content of a sweep's page: what was asked, how far it is, what came out."""
    frame = frames.results(sweep.path)
    finals = frames.final_returns(frame)
    counts = frame.drop_duplicates("lane")["status"].value_counts()
    settings = shared_settings(frame)
    settings["seeds"] = int(frame["seed"].nunique())
    varied = [k for k, v in settings.items() if isinstance(v, list)]
    problems: list[str] = []
    sections = []
    if not finals.empty:
        table = aggregate(finals, varied or ["objective"])
        sections.append(
            {
                "title": "Final returns",
                "text": "Mean over the last ten evaluations of each lane, then over seeds; "
                "intervals by percentile bootstrap.",
                "pictures": _drawn(
                    problems, lambda: overview.draw(finals, varied or ["objective"])
                ),
                "tables": [_table(_short(table), "by setting")],
            }
        )
    problems += [f"group {n}: {words}" for n, words in driver.failures(sweep).items()]
    missing = len(sweep.lanes) - len(finals)
    if missing:
        problems.insert(0, f"{missing} of {len(sweep.lanes)} lanes are not finished")
    points = frame["lane"].map(names_of(frame, varied))
    lost = frame[frame["status"] == "diverged"].drop_duplicates("lane")
    for point, lanes in lost.groupby(points):
        seeds = ", ".join(map(str, sorted(lanes["seed"])))
        where = f"{point}: seed {seeds}" if point else f"seed {seeds}"
        problems.append(f"{where}: numbers stopped being finite")
    named = frame.assign(lane=frame["lane"].map(names_of(frame, [*varied, "seed"])))
    problems += symptoms.sentences(named, by="lane")
    return {
        "title": f"Sweep {sweep.name}",
        "about": sweep.about,
        "facts": [f"{len(sweep.lanes)} lanes", *(f"{n} {state}" for state, n in counts.items())],
        "problems": problems,
        "sections": sections,
        "settings": {name: _shown(value) for name, value in settings.items()},
        "differences": differences(settings),
        "versions": _versions(sweep.provenance),
    }


def names_of(frame: pd.DataFrame, columns: list[str]) -> dict[int, str]:
    """What each lane is called: these of its settings."""
    lanes: Any = frame.drop_duplicates("lane").set_index("lane")
    return {
        lane: " ".join(f"{name}={_shown(row[name])}" for name in columns if _shown(row[name]))
        for lane, row in lanes.iterrows()
    }


def of_figures(folder: pathlib.Path, records: list[pathlib.Path]) -> dict[str, Any]:
    """Content of the page of all figures in a folder. One that is damaged is a problem; the others
    are shown."""
    sections: list[dict[str, Any]] = []
    versions: dict[str, dict[str, str]] = {}
    settings: dict[str, Any] = {}
    facts, problems = [], []
    for path in records:
        name = f"figure {path.stem.removeprefix('figure-')}"
        try:
            record = files.read_json(path)
            sections.append(_section(path, name[0].upper() + name[1:], record))
            versions[name] = _versions(record)
        except Exception as error:  # whatever pandas and others make of damaged files
            problems.append(f"{name} is left out, for its files can't be read: {in_a_line(error)}")
            continue
        facts.append(name)
        if "sweeps" in record:
            for setting, value in record.get("settings", {}).items():
                old = settings.get(setting, [])
                new = value if isinstance(value, list) else [value]
                settings[setting] = [*old, *(v for v in new if v not in old)]
    return {
        "title": "Figures",
        "about": "What omd figure wrote into one folder.",
        "facts": facts,
        "problems": problems,
        "sections": sections,
        "settings": {},
        "differences": differences(settings) if settings else [],
        "versions": {
            name: ", ".join(f"{k} {v}" for k, v in mine.items()) for name, mine in versions.items()
        },
    }


def _section(path: pathlib.Path, title: str, record: dict[str, Any]) -> dict[str, Any]:
    """A figure's picture, its tables and its settings; `path` is that of its record."""
    picture, tables = path.with_suffix(".png"), []
    for kind in ("claims", "aggregates"):
        if (csv := path.with_name(f"{path.stem}-{kind}.csv")).exists():
            tables.append(_table(_short(pd.read_csv(csv)), kind))
    rows = [{"setting": k, "value": _shown(v)} for k, v in record.get("settings", {}).items()]
    return {
        "title": title,
        "text": "; ".join(s["about"] for s in record.get("sweeps", []) if s.get("about")),
        "pictures": [_inline(picture.read_bytes(), "png")] if picture.exists() else [],
        "tables": [*tables, _table(pd.DataFrame(rows), "settings")],
    }


def _inline(picture: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"


def _short(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers with few digits; an estimate and its interval in one cell."""
    frame = frame.copy()
    for name, low, high in (
        ("mean", "mean_low", "mean_high"),
        ("interquartile_mean", "interquartile_low", "interquartile_high"),
        ("estimate", "low", "high"),
    ):
        if name in frame:
            cells = [
                f"{a:.4g} [{b:.4g}, {c:.4g}]"
                for a, b, c in frame[[name, low, high]].itertuples(index=False)
            ]
            frame[name] = cells
            frame = frame.drop(columns=[low, high])
    return frame


def _table(frame: pd.DataFrame, title: str) -> dict[str, Any]:
    shown = frame.head(ROWS)
    return {
        "title": title,
        "columns": [str(c).replace("_", " ") for c in frame.columns],
        "rows": [[_shown(v) for v in row] for row in shown.itertuples(index=False)],
        "left_off": len(frame) - len(shown),
    }


def _shown(value: Any) -> str | markupsafe.Markup:
    if isinstance(value, list):
        return ", ".join(str(_shown(v)) for v in value)
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return "" if value is None else str(value)


def _versions(record: dict[str, Any]) -> dict[str, str]:
    """Versions and machine of a provenance record, flat."""
    flat: dict[str, str] = {}
    for name, value in record.items():
        if name == "versions":
            flat |= {k: str(v) for k, v in value.items()}
        elif name in (
            "python",
            "platform",
            "processor",
            "device",
            "devices",
            "cores",
            "command",
            "started",
            "wall_clock_seconds",
        ):
            flat[name] = str(value)
    return flat
