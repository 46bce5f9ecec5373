"""The paper's claims of section 7 and appendices D to F, each held against stored lanes as a
difference or a level with its confidence interval."""

from __future__ import annotations

import functools
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from omd.analysis.statistics import LEVEL, Interval, difference, interval
from omd.runs import files

Expected = Literal["above", "not above", "alike"]
"""Where the paper says that an estimate is: above zero, not above it, or at it."""
Values = Callable[[pd.DataFrame, str], pd.Series]
"""A number for each lane, from its row and the name of a measure."""
Lanes = Mapping[str, Any]
"""Values that columns of the lanes meant have; columns that a table lacks don't matter."""
RETURNS = ("final_return", "best_window_return")
"""The mean of a lane's last ten evaluations, and its best window of ten: the paper says final
performance, and doesn't define it."""
NEAR_OPTIMAL = 475.0
"""CartPole counts as solved from here on; the most is 500."""


class Point(NamedTuple):
    """Where a claim is looked at."""

    at: str
    one: Lanes
    other: Lanes | None = None
    """Whose numbers are taken off; nothing where the claim is about a level."""


class Claim(NamedTuple):
    """One claim."""

    figure: int
    """That shows it, or 0."""
    where: str
    name: str
    sentence: str
    """The paper's."""
    measured: str
    expected: Expected
    points: Sequence[Point]
    command: str
    """What runs the lanes under the paper's protocol."""
    measures: Sequence[str] = RETURNS
    values: Values = lambda lanes, measure: lanes[measure]


def verdict(found: Interval, expected: Expected) -> str:
    """Whether an interval supports that its estimate is above, below or at zero."""
    if math.isnan(found.low):
        return "one seed tells nothing"
    above, below = found.low > 0, found.high < 0
    if expected == "above":
        return "holds" if above else "contradicted" if below else "undecided"
    if expected == "not above":
        return "contradicted" if above else "holds" if below else "not contradicted"
    return "contradicted" if above or below else "not contradicted"


def _gain(lanes: pd.DataFrame, measure: str) -> pd.Series:
    return lanes[measure] - lanes["initial_return"]


def _above_near_optimal(lanes: pd.DataFrame, measure: str) -> pd.Series:
    return lanes[measure] - NEAR_OPTIMAL


def _over_random(lanes: pd.DataFrame, measure: str) -> pd.Series:
    return _logarithm(lanes, measure) - _logarithm(lanes, "random_model_mse")


def _logarithm(lanes: pd.DataFrame, measure: str) -> pd.Series:
    return pd.Series(np.log10(lanes[measure].to_numpy(float)), lanes.index)


_CARTPOLE: Lanes = {
    "env": "CartPole-v1",
    "distractors": 0,
    "inner_steps": 1,
    "critics": 2,
    "method": "identity",
}
_PAPER: Lanes = {**_CARTPOLE, "model_output": "state"}
_CHEETAH: Lanes = {"env": "HalfCheetah-v5", "distractors": 0}
SMALL, MANY = (1, 2, 3, 4), (64, 128, 256, 512)
POSITIVE = (16, 32, *MANY)


def _with(lanes: Lanes, objective: str, **more: Any) -> Lanes:
    return {**lanes, **more, "objective": objective}


def _at(
    words: str, setting: str, values: Sequence[int], one: str, other: str | None
) -> list[Point]:
    """A point for each value of a setting, called by `words`."""

    def lanes(objective: str, value: int) -> Lanes:
        return _with(_PAPER, objective, **{setting: value})

    return [
        Point(
            words.format(value),
            lanes(one, value),
            None if other is None else lanes(other, value),
        )
        for value in values
    ]


_at_widths = functools.partial(_at, "width {}", "model_hidden")
_at_distractors = functools.partial(_at, "{} distractors", "distractors")


_DEFAULT = _with(_PAPER, "omd", model_hidden=32)
_INNER = [Point(f"K={k}", {**_DEFAULT, "inner_steps": k}, _DEFAULT) for k in (3, 10)]
_INVERSES = [
    Point(name, {**_DEFAULT, "method": name}, _DEFAULT)
    for name in ("cg", "normal-cg", "gmres", "neumann", "nystrom", "gauss-newton")
]
_HALFCHEETAH = [
    Point(
        f"{at}, {method}",
        _with(_CHEETAH, "omd", method=method, **settings),
        _with(_CHEETAH, "mle", **settings),
    )
    for at, settings in (
        *((f"width {width}", {"model_hidden": width}) for width in (2, 3, 8, 16, 64)),
        *(
            (f"{count} distractors", {"model_hidden": 64, "distractors": count})
            for count in (16, 32, 64)
        ),
    )
    for method in ("identity", "gauss-newton")
]
_LEFT, _RIGHT = "omd sweep race-figure-4-left", "omd sweep race-figure-4-right"
_SEVEN, _EIGHT = "omd sweep paper-figure-7", "omd sweep race-figure-8"

CLAIMS = (
    Claim(
        0,
        "section 7",
        "OMD near-optimal",
        "The OMD agent with approximations from Section 6 achieves near-optimal returns.",
        f"return − {NEAR_OPTIMAL:g}",
        "above",
        [
            Point("32 units, the paper's settings", _DEFAULT),
            Point("32 units, shipped settings", {**_DEFAULT, "model_output": "change"}),
        ],
        _SEVEN,
        values=_above_near_optimal,
    ),
    Claim(
        4,
        "section 7",
        "OMD above MLE with small models",
        "The performance of OMD is better compared to MLE under the model misspecification.",
        "return, OMD − MLE",
        "above",
        _at_widths(SMALL, "omd", "mle"),
        _LEFT,
    ),
    Claim(
        4,
        "section 7",
        "OMD learns with one unit",
        "Even when the hidden dimensionality of the model is 1, the OMD model encodes useful "
        "information for taking optimal actions.",
        "return, OMD − itself untrained",
        "above",
        _at_widths((1,), "omd", None),
        _LEFT,
        values=_gain,
    ),
    Claim(
        4,
        "section 7",
        "OMD above VEP with small models",
        "The OMD agent […] performs better than the MLE-based MBRL agent as well as VEP under "
        "model misspecification.",
        "return, OMD − VEP",
        "above",
        _at_widths(SMALL, "omd", "vep"),
        _LEFT,
    ),
    Claim(
        4,
        "figure 4",
        "OMD above MLE with many distractors",
        "OMD is more robust as the number of distractor increases.",
        "return, OMD − MLE",
        "above",
        _at_distractors(MANY, "omd", "mle"),
        _RIGHT,
    ),
    Claim(
        4,
        "figure 4",
        "VEP fails with many distractors",
        "VEP fails for any positive number of distractors.",
        "return, VEP − itself untrained",
        "not above",
        _at_distractors(POSITIVE, "vep", None),
        _RIGHT,
        values=_gain,
    ),
    Claim(
        4,
        "section 7",
        "OMD above VEP with distractors",
        "Learning a model to predict values for a fixed set of policies and value functions is not "
        "as effective, especially if some states are non-informative.",
        "return, OMD − VEP",
        "above",
        _at_distractors(POSITIVE, "omd", "vep"),
        _RIGHT,
    ),
    Claim(
        5,
        "section 7",
        "OMD's model less likely than a random one",
        "The MSE of OMD models is higher than the MSE of a randomly initialized model.",
        "log10 of model MSE, OMD / random",
        "above",
        _at_widths((1, 3), "omd", None),
        _LEFT,
        ("final_model_mse",),
        _over_random,
    ),
    Claim(
        5,
        "section 7",
        "while its return is above MLE's",
        "… while OMD achieves higher returns than MLE.",
        "return, OMD − MLE",
        "above",
        _at_widths((1, 3), "omd", "mle"),
        _LEFT,
    ),
    Claim(
        5,
        "figure 5",
        "and MLE's model the more accurate one",
        "… even though MLE predicts the next states more accurately.",
        "log10 of model MSE, OMD / MLE",
        "above",
        _at_widths((1, 3), "omd", "mle"),
        _LEFT,
        ("final_model_mse",),
        _logarithm,
    ),
    Claim(
        7,
        "appendix E",
        "returns alike for all K",
        "The difference between 1, 3, and 10 steps is insignificant.",
        "return, {} − K=1",
        "alike",
        _INNER,
        _SEVEN,
    ),
    Claim(
        7,
        "appendix E",
        "double Q-learning above single",
        "Double Q-learning is the only important algorithmic modification.",
        "return, default − {}",
        "above",
        [Point("single Q", _DEFAULT, {**_DEFAULT, "critics": 1})],
        _SEVEN,
    ),
    Claim(
        7,
        "appendix E",
        "inverse Jacobian no better",
        "We did not observe significant benefits from using the inverse Jacobian.",
        "return, {} − identity",
        "not above",
        _INVERSES,
        _SEVEN,
    ),
    Claim(
        8,
        "appendix F",
        "OMD above MLE on HalfCheetah",
        "In both settings, the OMD model makes more useful predictions.",
        "return, OMD − MLE",
        "above",
        _HALFCHEETAH,
        _EIGHT,
    ),
)
"""In the paper's order. Appendix D states settings only; appendix E's sentences on overestimated
values and on the tabular constraint have no lanes here that could decide them."""


def rows(
    finals: pd.DataFrame,
    *,
    figure: int | None = None,
    measures: Sequence[str] = RETURNS,
) -> list[dict[str, Any]]:
    """A line for each claim, point and measure, of one figure or of all; `finals` has a row a lane,
    as `final_returns` gives it. Points without lanes are there with 0 seeds.

    Measures of returns other than `measures` are left out.
    """
    lanes = _named(finals)
    found = []
    for claim in CLAIMS:
        if figure not in (None, claim.figure):
            continue
        for point in claim.points:
            for measure in claim.measures:
                if measure in measures or measure not in RETURNS:
                    found.append(_row(claim, point, measure, lanes))
    return found


def _row(claim: Claim, point: Point, measure: str, lanes: pd.DataFrame) -> dict[str, Any]:
    one = _chosen(lanes, point.one)
    other = None if point.other is None else _chosen(lanes, point.other)
    sides = [one] if other is None else [one, other]
    samples = [
        claim.values(side, measure).to_numpy(float) if len(side) else np.array([]) for side in sides
    ]
    empty = any(sample.size == 0 for sample in samples)
    estimate = interval(samples[0]) if other is None else difference(samples[0], samples[1])
    used = pd.concat(sides)
    sources = [] if empty or "source" not in used else used["source"].drop_duplicates().tolist()
    return {
        "where": claim.where,
        "claim": claim.name,
        "sentence": claim.sentence,
        "at": point.at,
        "measured": claim.measured.format(point.at),
        "measure": measure,
        "estimate": estimate.estimate,
        "low": estimate.low,
        "high": estimate.high,
        "level": LEVEL,
        "seeds": 0 if empty else min(sample.size for sample in samples),
        "outcome": "not run" if empty else verdict(estimate, claim.expected),
        "source": ", ".join(sorted(sources)),
        "command": claim.command,
    }


def _named(finals: pd.DataFrame) -> pd.DataFrame:
    """With objectives by name, without their settings, and the hypergradient's name."""
    found = finals.assign(objective=finals["objective"].str.partition(":")[0])
    if "hypergradient" in found:
        found["method"] = found["hypergradient"].str.partition(":")[0]
    return found


def _chosen(lanes: pd.DataFrame, wanted: Lanes) -> pd.DataFrame:
    # of an objective without an inner problem the hypergradient says nothing
    implicit = wanted["objective"] == "omd"
    for column, value in wanted.items():
        if column in lanes and (column != "method" or implicit):
            lanes = lanes[lanes[column] == value]
    return lanes


IN_THREE_WORDS = {
    "not contradicted": "undecided (not contradicted)",
    "one seed tells nothing": "undecided (one seed)",
    "not run": "undecided (not run)",
}
"""Of the table of all claims: holds, contradicted, undecided."""


def table(finals: pd.DataFrame) -> list[dict[str, Any]]:
    """All claims, each point in one line with both measures of returns side by side."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in rows(finals):
        outcome = IN_THREE_WORDS.get(one["outcome"], one["outcome"])
        mine = {"estimate": one["estimate"], "low": one["low"], "high": one["high"]}
        if one["measure"] == "best_window_return":
            line = found[one["claim"], one["at"]]
            line |= {f"best_window_{name}": value for name, value in mine.items()}
            line["best_window_outcome"] = outcome
            continue
        kept = ("where", "claim", "sentence", "at", "measured")
        blank = dict.fromkeys(("best_window_estimate", "best_window_low", "best_window_high"))
        found[one["claim"], one["at"]] = {
            **{name: one[name] for name in kept},
            **mine,
            **blank,
            "level": LEVEL,
            "seeds": one["seeds"],
            "outcome": outcome,
            "best_window_outcome": "",
            "source": one["source"],
            "command": one["command"],
        }
    return list(found.values())


FIGURE_COLUMNS = (
    "claim",
    "at",
    "measured",
    "estimate",
    "low",
    "high",
    "level",
    "seeds",
    "outcome",
)


def of_figure(finals: pd.DataFrame, figure: int) -> list[dict[str, Any]]:
    """The claims that a figure's lanes say something about, by their final returns. What else a
    lane was trained with is as the figure says: only what it varies tells points apart."""
    said = ["model_output", *(["model_hidden"] if figure == 7 else [])]
    found = rows(finals.drop(columns=said, errors="ignore"), figure=figure, measures=RETURNS[:1])
    return [{name: one[name] for name in FIGURE_COLUMNS} for one in found if one["seeds"]]


def write(found: list[dict[str, Any]], out: pathlib.Path, name: str) -> list[pathlib.Path]:
    """`name`.csv, and the same as a Markdown table; returns both paths."""
    if not found:
        return []
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"{name}.csv", out / f"{name}.md"]
    with files.atomic(paths[0]) as temporary:
        pd.DataFrame(found).to_csv(temporary, index=False, float_format="%.6g")
    with files.atomic(paths[1]) as temporary:
        temporary.write_text(markdown(found), encoding="utf-8")
    return paths


def markdown(found: list[dict[str, Any]]) -> str:
    """The lines as a table: with both measures, sentences and sources where they are given."""
    whole = bool(found) and "best_window_estimate" in found[0]
    heads = ["claim", "at", "measured", f"estimate [{LEVEL:.0%} interval]", "seeds", "outcome"]
    if whole:
        heads = [
            "the paper's sentence",
            *heads[1:4],
            "best window",
            *heads[4:],
            "with the best window",
            "lanes of",
            "command",
        ]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for one in found:
        span = _span(one["estimate"], one["low"], one["high"])
        cells = [one["claim"], one["at"], one["measured"], span, str(one["seeds"]), one["outcome"]]
        if whole:
            best = [one[f"best_window_{name}"] for name in ("estimate", "low", "high")]
            cells = [
                f"{one['sentence']} ({one['where']})",
                *cells[1:4],
                _span(*best),
                *cells[4:],
                one["best_window_outcome"],
                one["source"],
                f"`{one['command']}`",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _span(estimate: Any, low: Any, high: Any) -> str:
    if estimate is None or math.isnan(estimate):
        return ""
    first, *ends = (f"{x:.0f}" if abs(x) >= 100 else f"{x:.3g}" for x in (estimate, low, high))
    return f"{first} [{', '.join(ends)}]"
