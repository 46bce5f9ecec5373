"""The paper's claims of section 7 and appendix E as differences with confidence intervals."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from omd.analysis.statistics import LEVEL, Interval, difference, interval
from omd.runs import files


def verdict(found: Interval, expected: str) -> str:
    """Whether an interval supports that its estimate is above, below or at zero."""
    if math.isnan(found.low):
        return "one seed tells nothing"
    above, below = found.low > 0, found.high < 0
    if expected == "above":
        return "holds" if above else "contradicted" if below else "undecided"
    if expected == "not above":
        return "contradicted" if above else "holds" if below else "not contradicted"
    return "contradicted" if above or below else "not contradicted"


def row(claim: str, point: str, measure: str, found: Interval, expected: str, n: int) -> dict:
    """One line of the table: `expected` is above, not above, or alike."""
    return {
        "claim": claim,
        "at": point,
        "measure": measure,
        "estimate": found.estimate,
        "low": found.low,
        "high": found.high,
        "level": LEVEL,
        "seeds": n,
        "outcome": verdict(found, expected),
    }


def of_figure_4(chosen: pd.DataFrame) -> list[dict[str, Any]]:
    """OMD above MLE at widths 1 to 4, and from 64 distractors on, VEP failing there."""
    rows = []
    for width, part in _by(chosen[chosen["distractors"] == 0], "model_hidden"):
        omd, mle = _returns(part, "omd"), _returns(part, "mle")
        if width <= 4 and omd.size and mle.size:
            rows.append(
                row(
                    "OMD above MLE with small models",
                    f"width {width}",
                    "return, OMD − MLE",
                    difference(omd, mle),
                    "above",
                    min(omd.size, mle.size),
                )
            )
    for noise, part in _by(chosen[chosen["distractors"] > 0], "distractors"):
        omd, mle = _returns(part, "omd"), _returns(part, "mle")
        vep = part[part["objective"] == "vep"]
        if noise >= 64 and omd.size and mle.size:
            rows.append(
                row(
                    "OMD above MLE with many distractors",
                    f"{noise} distractors",
                    "return, OMD − MLE",
                    difference(omd, mle),
                    "above",
                    min(omd.size, mle.size),
                )
            )
        if noise >= 64 and len(vep):
            gain = (vep["final_return"] - vep["initial_return"]).to_numpy()
            rows.append(
                row(
                    "VEP fails with many distractors",
                    f"{noise} distractors",
                    "return, VEP − itself untrained",
                    interval(gain),
                    "not above",
                    len(vep),
                )
            )
    return rows


def of_figure_5(chosen: pd.DataFrame) -> list[dict[str, Any]]:
    """OMD's model worse than a random one, in likelihood, while its return is above MLE's."""
    rows = []
    for width, part in _by(chosen[chosen["distractors"] == 0], "model_hidden"):
        omd = part[part["objective"] == "omd"]
        mle = _returns(part, "mle")
        if omd.empty or mle.size == 0:
            continue
        ratio = np.log10((omd["final_model_mse"] / omd["random_model_mse"]).to_numpy(float))
        rows.append(
            row(
                "OMD's model less likely than a random one",
                f"width {width}",
                "log10 of model MSE, OMD / random",
                interval(ratio),
                "above",
                ratio.size,
            )
        )
        found = difference(omd["final_return"].to_numpy(), mle)
        rows.append(
            row(
                "while its return is above MLE's",
                f"width {width}",
                "return, OMD − MLE",
                found,
                "above",
                min(len(omd), mle.size),
            )
        )
    return rows


def of_figure_7(finals: pd.DataFrame) -> list[dict[str, Any]]:
    """K alike; double Q above single; inverse Jacobians not above the identity."""
    parts = {
        str(name): part["final_return"].to_numpy(float) for name, part in finals.groupby("variant")
    }
    default = parts.pop("default", np.array([]))
    rows = []
    for name, values in parts.items():
        n = min(default.size, values.size)
        if name.startswith("K"):
            what = ("returns alike for all K", "return, {} − K=1", "alike")
            found = difference(values, default)
        elif name == "single Q":
            what = ("double Q-learning above single", "return, default − {}", "above")
            found = difference(default, values)
        else:
            what = ("inverse Jacobian no better", "return, {} − identity", "not above")
            found = difference(values, default)
        rows.append(row(what[0], name, what[1].format(name), found, what[2], n))
    return sorted(rows, key=lambda r: r["claim"])


def write(rows: list[dict[str, Any]], out: pathlib.Path, name: str) -> list[pathlib.Path]:
    """`name`-claims.csv, and the same as a Markdown table; returns both paths."""
    if not rows:
        return []
    frame = pd.DataFrame(rows)
    paths = [out / f"{name}-claims.csv", out / f"{name}-claims.md"]
    with files.atomic(paths[0]) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")
    with files.atomic(paths[1]) as temporary:
        temporary.write_text(markdown(rows), encoding="utf-8")
    return paths


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"| claim | at | measured | estimate [{LEVEL:.0%} interval] | seeds | outcome |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        span = f"{r['estimate']:.3g} [{r['low']:.3g}, {r['high']:.3g}]"
        cells = (r["claim"], r["at"], r["measure"], span, str(r["seeds"]), r["outcome"])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _by(frame: pd.DataFrame, column: str) -> Iterator[tuple[int, pd.DataFrame]]:
    for value in sorted(set(frame[column].tolist())):
        yield value, frame[frame[column] == value]


def _returns(part: pd.DataFrame, objective: str) -> np.ndarray:
    return part.loc[part["objective"] == objective, "final_return"].to_numpy(float)
