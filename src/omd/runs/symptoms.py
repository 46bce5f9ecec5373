"""Training that goes wrong without stopping, as its evaluations show it: counted, with a hint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd


class Symptom(NamedTuple):
    """A column of the metrics, and what it means from a value on."""

    column: str
    least: float
    """From here on it is bad; NaN never is."""
    short: str
    """In the progress line, after a number of lanes."""
    sentence: str
    """With the worst `value` seen, and a hint."""
    trained: bool = True
    """Whether it counts only once something has been learned."""
    after: int = 0
    """Steps of learning before which it means nothing."""

    def shows(self, row: Mapping[str, Any], begun: int | None) -> bool:
        """Whether an evaluation has it; `begun` is what `first_learned` gave."""
        counts = not self.trained or has_learned(row)
        if self.after:
            counts = counts and begun is not None and row["step"] - begun >= self.after
        return counts and row.get(self.column, math.nan) >= self.least


def has_learned(row: Mapping[str, Any]) -> bool:
    """Whether something was learned since the evaluation before."""
    return math.isfinite(row.get("inner_loss", math.nan))


def first_learned(rows: Iterable[Mapping[str, Any]]) -> int | None:
    """The step of the first of these evaluations after something was learned, if there is one."""
    return min((int(row["step"]) for row in rows if has_learned(row)), default=None)


SETTLED = 2000
"""Steps of learning before which a policy may be the same everywhere and yet be well: a network
that has hardly moved prefers one action. Of four runs on CartPole that learn well, one is so for
the last time after 1000 (results/faults/NOTES.md)."""

SYMPTOMS = (
    Symptom(
        "q_beyond",
        0.05,
        "with Q beyond all returns",
        "Q is above the largest return that the rewards allow on up to {value:.0%} of transitions: "
        "lower inner_learning_rate or tau, or check the model's rewards",
    ),
    Symptom(
        "policy_saturation",
        0.99,
        "with a saturated policy",
        "the policy hardly depends on the state (up to {value:.0%} of its actions are the same or "
        "at an end of their range): raise temperature or epsilon, or scale observations and "
        "rewards",
        after=SETTLED,
    ),
    Symptom(
        "dead_share",
        0.5,
        "with dead layers",
        "up to {value:.0%} of the units of a hidden layer are zero on all transitions: give other "
        "seeds, more hidden units, or lower the learning rates",
        trained=False,
    ),
    Symptom(
        "solve_failed",
        0.01,
        "with failed solves",
        "up to {value:.0%} of the hypergradient's linear solves missed their tolerance: give it "
        "damping or more max_steps, or take gauss-newton",
    ),
)


def in_short(rows: Sequence[Mapping[str, Any]], begun: int | None = None) -> list[str]:
    """For each symptom that some lane shows in an evaluation: how many do. `begun` is the step
    that `first_learned` gives, where it is known."""
    counts = {one.short: sum(one.shows(row, begun) for row in rows) for one in SYMPTOMS}
    return [f"{count} {short}" for short, count in counts.items() if count]


def sentences(metrics: pd.DataFrame, by: str = "seed", *, last: int | None = None) -> list[str]:
    """For each lane and symptom that it shows: in how many of its evaluations, and what to do. `by`
    is the column that lanes are called by; only the `last` evaluations count, where that is given,
    for what only counts once something has been learned."""
    found = []
    for name, rows in metrics.groupby(by):
        every = [
            {str(name): value for name, value in row.items()} for row in rows.to_dict("records")
        ]
        begun = first_learned(every)
        for one in SYMPTOMS:
            if one.column not in rows:
                continue
            looked = every[-last:] if last and one.trained else every
            bad = [row for row in looked if one.shows(row, begun)]
            if bad:
                words = one.sentence.format(value=max(row[one.column] for row in bad))
                number = f"the last {len(looked)}" if len(looked) < len(rows) else f"{len(looked)}"
                found.append(
                    f"{by} {name}: in {len(bad)} of {number} evaluations, at step "
                    f"{int(bad[-1]['step']):,} for the last time, {words}"
                )
    return found
