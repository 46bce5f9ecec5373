"""Fields of a configuration: their defaults by learner, their text for the command line, their
bounds, their check."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable
from typing import Any

from omd.errors import InputError

LEARNERS = ("soft-q", "sac")

BY_LEARNER = {
    name: dict(zip(LEARNERS, values, strict=True))
    for name, values in {
        # soft-q: appendix D but for the rates and Adam; sac: appendix F
        "steps": (200_000, 1_000_000),
        "learning_rate": (1e-4, 3e-4),
        "inner_learning_rate": (1e-3, 3e-4),
        "tau": (0.01, 0.005),
        "temperature": (0.01, 1.0),
        "epsilon": (0.1, 0.0),
        "hidden": (32, 256),
        "model_hidden": (32, 64),
        "random_steps": (1000, 10_000),
        "model_network": ("separate", "joint"),
        "hypergradient": ("identity", "identity"),
        "inner_optimizer": ("keep", "auto"),
        "evaluate_every": (1000, 5000),
    }.items()
}
"""Setting -> learner -> default."""
OF_OMD = {
    "sac": {"hypergradient": "gauss-newton:damping=1e-3", "inner_learning_rate": 1e-3},
}
"""Learner -> setting -> default with objective `omd`, where it isn't that of the others."""


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    lane: bool = False,
) -> Any:
    """A field with the text and the bounds that the command line and the check share.

    `default` is a value, or a dictionary of values by learner: the field is then None until
    `Config.resolved` fills it in. `lane` marks settings that may differ between the lanes of one
    compiled program.
    """
    by_learner = default if isinstance(default, dict) else {}
    example = by_learner.get("soft-q", default)
    metadata = dict(
        help=help, choices=choices, low=low, high=high, open_low=open_low, lane=lane,
        by_learner=by_learner, text=isinstance(example, str),
        whole=not isinstance(example, float),
    )  # fmt: skip
    return dataclasses.field(default=None if by_learner else default, metadata=metadata)


def default_of(field: dataclasses.Field, learner: str, objective: str) -> Any:
    """The default of a field that has one by learner."""
    of_omd = OF_OMD.get(learner, {}) if objective == "omd" else {}
    return of_omd.get(field.name, field.metadata["by_learner"][learner])


def defaults(field: dataclasses.Field) -> str:
    """What a field's default is, by learner where that matters, for `--help`."""
    if not field.metadata["by_learner"]:
        return "" if field.default is None else str(field.default)
    first, second = (default_of(field, learner, "none") for learner in LEARNERS)
    text = f"{first}" if first == second else f"{first}; {LEARNERS[1]}: {second}"
    special = default_of(field, LEARNERS[1], "omd")
    return text if special == second else f"{text}; {LEARNERS[1]} with omd: {special}"


def closest(what: str, name: str, known: Iterable[str]) -> str:
    """`name` if it is known, else `InputError` with the nearest names."""
    known = sorted(known)
    if name in known:
        return name
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4) or known
    raise InputError(f"unknown {what} {name!r}: did you mean {' or '.join(near)}?")


def read_number(name: str, text: str) -> float | int:
    """A setting's number from the command line's text; `checked` rejects those that can't work."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise InputError(f"{name} is {text!r}: give a number")


def checked(field: dataclasses.Field, value: Any) -> Any:
    """The value in the field's type; raises `InputError` for another type or one out of bounds."""
    if field.name == "seeds":
        return _seeds(value)
    if value is None and field.default is None:
        return None
    if field.metadata["text"]:
        return _text(field, value)
    return _number(field, value)


def _text(field: dataclasses.Field, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{field.name} is {value!r}: give a name")
    if choices := field.metadata["choices"]:
        closest(field.name, value, choices)
    return value


def _number(field: dataclasses.Field, value: Any) -> float | int:
    """The value in the field's type and within its bounds."""
    bounds = field.metadata
    whole = bounds["whole"]
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{field.name} is {value!r}: give a number") from None
    if not math.isfinite(number):
        raise InputError(f"{field.name} is {value!r}: give a finite number")
    if whole and number != int(number):
        raise InputError(f"{field.name} is {value!r}: give a whole number")
    if number < bounds["low"] or (bounds["open_low"] and number <= bounds["low"]):
        than = "above" if bounds["open_low"] else "of at least"
        raise InputError(f"{field.name} is {value!r}: give a number {than} {bounds['low']:g}")
    if number > bounds["high"]:
        raise InputError(f"{field.name} is {value!r}: give a number of at most {bounds['high']:g}")
    return int(number) if whole else number


def _seeds(value: Any) -> tuple[int, ...]:
    if isinstance(value, bool) or not isinstance(value, int | Iterable) or isinstance(value, str):
        raise InputError(f"seeds is {value!r}: give a number of seeds, or a tuple of them")
    if isinstance(value, int):
        if value < 1:
            raise InputError(f"seeds is {value}: give at least 1")
        return tuple(range(value))
    seeds = tuple(value)
    if not seeds or any(not isinstance(s, int) or not 0 <= s < 2**32 for s in seeds):
        raise InputError(f"seeds is {seeds!r}: give whole numbers from 0 to 2**32 - 1")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds is {seeds!r}: give each seed once")
    return seeds
