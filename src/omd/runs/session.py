"""Lanes on their way to the last step: what runs and groups of a sweep share."""

from __future__ import annotations

import math
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from omd.callbacks import Callback, Evaluation, Record, open_all
from omd.runs import folder
from omd.runs.checkpoint import Checkpoint
from omd.runs.signals import Stop
from omd.settings import Settings
from omd.training.chunk import LaneState
from omd.training.program import Program
from omd.types import Metrics

Rows = list[dict[str, Any]]


class Planned(NamedTuple):
    """A chunk to come."""

    steps: int
    learn: bool
    evaluated: bool
    """Whether an evaluation follows it."""
    end: int
    """The step that it ends at."""


def train(
    program: Program,
    state: LaneState,
    settings: Settings,
    labels: Sequence[Mapping[str, int]],
    path: pathlib.Path | None,
    rows: Rows,
    callbacks: Sequence[Callback] = (),
) -> tuple[LaneState, Rows]:
    """Advance all lanes to `settings.steps`, or to the next chunk's end once a signal or a callback
    asks to stop.

    `labels` begin each lane's rows: its number `lane`, its `seed`. `rows` are those so far. All
    `callbacks` hear of each chunk, also where one of them raises; its error ends the run then. The
    last of them is the checkpoint of the folder `path`; nothing is written where that is None.
    """
    rows = list(rows)
    diverged = {row["lane"] for row in rows if row["diverged"]}
    compiled: set[tuple[int, bool]] = set()
    listeners = [*callbacks, *([Checkpoint(program)] if path else [])]
    with open_all(listeners, settings, path), Stop() as stop:
        begin = int(np.asarray(state.step)[0])
        chunks = boundaries(settings, begin)
        program.compile_ahead(state, [(chunk.steps, chunk.learn) for chunk in chunks])
        if begin == 0 and not rows:
            chunks.insert(0, Planned(0, learn=False, evaluated=True, end=0))
        for chunk in chunks:
            clock = time.monotonic()
            figures: Metrics = {}
            with program.host_errors():
                if chunk.steps:
                    state, figures = program.advance(state, chunk.steps, learn=chunk.learn)
                if chunk.evaluated:
                    figures |= program.evaluate(state)
                numbers = {name: np.asarray(values) for name, values in figures.items()}
            finite = numbers.pop("finite", np.ones(len(labels), bool))
            divergences = folder.divergences(program, labels, numbers.get("episode_return"))
            diverged |= {label["lane"] for i, label in enumerate(labels) if not finite[i]}
            diverged |= divergences.keys()
            new = [
                {
                    **label,
                    "step": chunk.end,
                    **{name: float(values[i]) for name, values in numbers.items()},
                    "diverged": label["lane"] in diverged,
                }
                for i, label in enumerate(labels)
                if chunk.evaluated
            ]
            rows += new
            speed = program.lanes * chunk.steps / (time.monotonic() - clock)
            if (chunk.steps, chunk.learn) not in compiled:
                compiled.add((chunk.steps, chunk.learn))
                speed = math.nan
            now = Evaluation(chunk.end, settings.steps, new, speed, stop.request)
            _tell(listeners, Record(now, state, rows, divergences, lambda: stop.requested))
            if stop.requested:
                break
    return state, rows


def _tell(callbacks: Sequence[Callback], record: Record) -> None:
    """Tell all callbacks, then raise the first of their errors."""
    for callback in callbacks:
        try:
            callback.after_chunk(record)
        except BaseException as error:
            error.add_note(f"raised by {callback.name} at step {record.evaluation.step}")
            record.errors.append(error)
    if record.errors:
        first, *others = record.errors
        for other in others:
            first.add_note(f"then {type(other).__name__}: {other}, {other.__notes__[0]}")
        raise first


def boundaries(settings: Settings, start: int) -> list[Planned]:
    """The chunks from step `start` on."""
    every, steps = settings.evaluate_every, settings.steps
    cuts = {*range(0, steps, every), settings.random_steps, steps}
    ends = sorted(end for end in cuts if start < end <= steps)
    return [
        Planned(end - begin, begin >= settings.random_steps, end % every == 0 or end == steps, end)
        for begin, end in zip([start, *ends], ends, strict=False)
    ]
