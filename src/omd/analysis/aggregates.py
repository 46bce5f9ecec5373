"""Objectives side by side over many tasks: normalised scores, interquartile means, probability of
improvement and performance profiles, with intervals by a bootstrap within each task.

As recommended by Agarwal et al., "Deep reinforcement learning at the edge of the statistical
precipice" (2021). A task is an environment with its misspecification; a run is a seed of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from omd.analysis.statistics import LEVEL, Interval, interquartile_mean
from omd.errors import InputError

TASK = ("env", "model_hidden", "distractors", "distractor_kind")
"""Columns whose values make a task."""
RESAMPLES = 2000
Scores = list[np.ndarray]
"""Of one objective: for each task the scores of its runs, in the order of the tasks."""


def tasks(finals: pd.DataFrame) -> list[tuple[Any, ...]]:
    """The tasks of some lanes, in order."""
    found = {tuple(row) for row in finals[list(TASK)].itertuples(index=False)}
    return sorted(found, key=lambda task: (str(task[0]), *task[1:3], str(task[3])))


def name_of(task: Sequence[Any]) -> str:
    """Such as "width 3" or "width 64, 16 distractors (linear)"."""
    _, width, count, kind = task
    noise = f", {count} distractors" + (f" ({kind})" if kind != "noise" else "")
    return f"width {width}" + (noise if count else "")


def scores(finals: pd.DataFrame) -> tuple[dict[str, Scores], dict[str, dict[str, float]]]:
    """Scores of each objective by task, and the two returns of each environment that are 0 and 1:
    the untrained policies' mean, and the highest mean of an objective at a task.

    Raises `InputError` where an objective lacks a task that another has, and where an environment
    has no return above the untrained one's.
    """
    ends: dict[str, dict[str, float]] = {}
    for env, part in finals.groupby("env"):
        means = part.groupby(["objective", *TASK])["final_return"].mean()
        zero, one = float(part["initial_return"].mean()), float(means.max())
        if not one > zero:
            raise InputError(
                f"no objective's mean return on {env} is above the untrained policies' "
                f"{zero:.4g}: there is no scale for scores; run longer"
            )
        ends[str(env)] = {"zero": zero, "one": one}
    found: dict[str, Scores] = {}
    wanted = tasks(finals)
    for objective, part in finals.groupby("objective"):
        mine = {key: rows for key, rows in part.groupby(list(TASK))}
        if absent := [task for task in wanted if task not in mine]:
            raise InputError(
                f"objective {objective!r} has no finished lane on {absent[0][0]}, "
                f"{name_of(absent[0])}: give sweeps with the same tasks for each objective"
            )
        found[str(objective)] = [
            (mine[task]["final_return"].to_numpy(float) - ends[task[0]]["zero"])
            / (ends[task[0]]["one"] - ends[task[0]]["zero"])
            for task in wanted
        ]
    return found, ends


def iqm(mine: Scores) -> Interval:
    """The interquartile mean over all runs of all tasks."""
    return _stratified([mine], lambda one: interquartile_mean(np.concatenate(one, axis=-1)))


def improvement(mine: Scores, theirs: Scores) -> Interval:
    """P(X > Y) + P(X = Y)/2 for a run of one objective and one of the other on the same task, mean
    over tasks."""

    def probability(mine, theirs):
        each = []
        for a, b in zip(mine, theirs, strict=True):
            a, b = a[..., :, None], b[..., None, :]
            each.append(np.mean((a > b) + 0.5 * (a == b), axis=(-2, -1)))
        return np.mean(np.stack(each), axis=0)

    return _stratified([mine, theirs], probability)


def profile(mine: Scores, at: np.ndarray) -> pd.DataFrame:
    """The share of runs with a score above each threshold, mean over tasks, with its interval."""
    rows = []
    for threshold in at.tolist():
        found = _stratified(
            [mine],
            lambda one, threshold=threshold: np.mean(
                np.stack([np.mean(x > threshold, axis=-1) for x in one]), axis=0
            ),
        )
        rows.append(
            {"score": threshold, "share": found.estimate, "low": found.low, "high": found.high}
        )
    return pd.DataFrame(rows)


def _stratified(samples: list[Scores], of: Callable[..., np.ndarray]) -> Interval:
    """`of` the samples with its percentile-bootstrap interval, runs drawn anew within each task;
    the seed is fixed. NaN at both ends where a task has one run only."""
    estimate = float(of(*samples))
    if any(x.size < 2 for one in samples for x in one):
        return Interval(estimate, math.nan, math.nan)
    rng = np.random.default_rng(0)
    drawn = [[x[rng.integers(0, x.size, (RESAMPLES, x.size))] for x in one] for one in samples]
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(of(*drawn), ends)
    return Interval(estimate, float(low), float(high))


def rliable(found: Mapping[str, Scores]) -> dict[str, np.ndarray]:
    """Scores as rliable takes them: objective to [runs, tasks]; runs that not all tasks have are
    left out."""
    return {
        name: np.stack([x[: min(y.size for y in mine)] for x in mine], axis=1)
        for name, mine in found.items()
    }


def marl_eval(frame: pd.DataFrame, finals: pd.DataFrame) -> dict[str, Any]:
    """Returns as marl-eval takes them: environment, task, objective, run, then each evaluation's
    step and return, and the final return as absolute metric. `frame` has a row an evaluation.

    It wants the same runs and evaluations everywhere in an environment, so seeds and steps that not
    all of its lanes have are left out; and no commas in names, so these become semicolons.
    """
    found: dict[str, Any] = {}
    wanted = finals[["sweep", "lane", "final_return"]]
    lanes = frame.merge(wanted, on=["sweep", "lane"]).sort_values("step")
    for env, mine in lanes.groupby("env"):
        cells = [part for _, part in mine.groupby([*TASK, "objective"])]
        seeds = set.intersection(*(set(part["seed"]) for part in cells))
        mine = mine[mine["seed"].isin(seeds)]
        steps = [set(part["step"]) for _, part in mine.groupby(["sweep", "lane"])]
        mine = mine[mine["step"].isin(set.intersection(*steps) if steps else [])]
        for (*task, objective), part in mine.groupby([*TASK, "objective"]):
            place = found.setdefault(str(env), {}).setdefault(name_of(task), {})
            runs = place.setdefault(str(objective).replace(",", ";"), {})
            for seed, rows in part.groupby("seed"):
                runs[f"seed_{seed}"] = _evaluations(rows)
    return found


def _evaluations(rows: pd.DataFrame) -> dict[str, Any]:
    """Of one run, as marl-eval takes them."""
    each = zip(rows["step"].tolist(), rows["episode_return"].tolist(), strict=True)
    return {
        **{
            f"step_{i}": {"step_count": step, "return": [value]}
            for i, (step, value) in enumerate(each)
        },
        "absolute_metrics": {"return": [float(rows["final_return"].iloc[0])]},
    }
