"""One picture of any sweep: the final returns of every point, for `omd report`."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pandas as pd

from omd.analysis.statistics import aggregate
from omd.figures import style

MOST = 60
"""Points that are drawn: the best ones."""


@style.styled
def draw(finals: pd.DataFrame, by: Sequence[str]) -> bytes:
    """A PNG with a row for each combination of `by`: seeds as dots, mean ± standard error."""
    table = aggregate(finals, by).sort_values("mean").tail(MOST)
    figure = style.new_figure(8, 1.3 + 0.22 * len(table))
    axes = figure.add_subplot()
    for place, row in enumerate(table.to_dict("records")):
        colour = style.look(str(row["objective"])).colour if "objective" in row else style.GREY
        chosen = (finals[list(by)] == pd.Series({k: row[k] for k in by})).all(axis=1)
        values = finals.loc[chosen, "final_return"]
        axes.plot(values, [place] * len(values), ".", color=colour, alpha=0.4, markersize=4)
        error = row["standard_error"] if row["count"] > 1 else 0
        axes.errorbar(row["mean"], place, xerr=error, color=colour, marker="o", capsize=2)
    rows = table.to_dict("records")
    labels = [style.plain("  ".join(_short(k, row[k]) for k in by)) for row in rows]
    axes.set_yticks(range(len(table)), labels, fontsize=7)
    axes.set_xlabel("final return (dots: seeds; mean ± standard error)")
    axes.set_ylim(-0.7, len(table) - 0.3)
    figure.tight_layout()
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130)
    return content.getvalue()


def _short(name: str, value: object) -> str:
    words = {"model_hidden": "width", "inner_learning_rate": "rate", "inner_steps": "K"}
    if name in ("objective", "hypergradient", "env"):
        return str(value)
    return f"{words.get(name, name)} {value:g}" if isinstance(value, float) else (
        f"{words.get(name, name)} {value}"
    )  # fmt: skip
