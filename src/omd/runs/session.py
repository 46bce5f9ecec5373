"""Lanes on their way to the last step, with checkpoints: what runs and groups of a sweep share."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from omd.callbacks import Callback, Evaluation
from omd.runs import folder
from omd.runs.signals import Stop
from omd.settings import Settings
from omd.training.program import LaneState, Program

FIRST_SECONDS, CHECKPOINT_SECONDS = 5.0, 60.0
"""Between checkpoints: in the beginning, and later. A short run then has one too."""
CHECKPOINT_SHARE = 0.05
"""Of the time that may go into checkpoints: large replay buffers are written less often."""

Rows = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Report:
    """What a progress display is told after each chunk."""

    step: int
    steps: int
    lanes: int
    lane_steps_per_second: float
    """Of the last chunk, its evaluation included; NaN for chunks that compiled."""
    rows: Rows


def train(
    program: Program,
    state: LaneState,
    config: Settings,
    labels: Sequence[Mapping[str, int]],
    path: pathlib.Path | None,
    rows: Rows,
    on_report: Callable[[Report], None] | None = None,
    callbacks: Sequence[Callback] = (),
) -> tuple[LaneState, Rows]:
    """Advance all lanes to `config.steps`, or to the next chunk's end once a signal or a callback
    asks to stop.

    `labels` begin each lane's rows: its number `lane`, its `seed`. `rows` are those so far. The
    folder `path` gets a checkpoint now and then, and one in the end, also where a callback raises;
    nothing is written where it is None. `on_report` is called after each chunk, `callbacks` after
    each evaluation.
    """
    rows = list(rows)
    numbers = [label["lane"] for label in labels]
    diverged = {row["lane"] for row in rows if row["diverged"]}
    started = saved = time.monotonic()
    cost = 0.0
    compiled: set[tuple[int, bool]] = set()

    def rows_of(step: int, metrics: Mapping[str, Any]) -> Rows:
        return [
            {
                **label,
                "step": step,
                **{name: float(np.asarray(values)[i]) for name, values in metrics.items()},
                "diverged": label["lane"] in diverged,
            }
            for i, label in enumerate(labels)
        ]

    def save() -> None:
        if path is not None:
            folder.save(program, state, path, pd.DataFrame(rows))

    def call(evaluation: Evaluation) -> None:
        for callback in callbacks:
            try:
                callback(evaluation)
            except BaseException as error:
                save()
                kept = "nothing was saved" if path is None else f"saved: go on with resume={path}"
                error.add_note(f"raised by {callback.name} at step {evaluation.step}; {kept}")
                raise

    with Stop() as stop:
        begin = int(np.asarray(state.step)[0])
        chunks = boundaries(config, begin)
        begins = [begin, *(end for end, *_ in chunks)]
        program.compile_ahead(
            state,
            [(end - start, learn) for start, (end, learn, _) in zip(begins, chunks, strict=False)],
        )
        if begin == 0 and not rows:
            first = {k: np.asarray(v) for k, v in program.evaluate(state).items()}
            diverged |= folder.note_divergences(program, labels, first["episode_return"], path)
            new = rows_of(0, first)
            rows += new
            save()
            started = saved = time.monotonic()
            call(Evaluation(0, config.steps, new, math.nan, stop.request))
            if stop.requested:
                return state, rows
        for end, learn, evaluated in chunks:
            clock = time.monotonic()
            state, metrics = program.advance(state, end - begin, learn=learn)
            figures = {k: np.asarray(v) for k, v in metrics.items()}
            finite = figures.pop("finite")
            diverged |= {number for i, number in enumerate(numbers) if not finite[i]}
            new = []
            if evaluated:
                figures |= {k: np.asarray(v) for k, v in program.evaluate(state).items()}
            returns = figures.get("episode_return")
            diverged |= folder.note_divergences(program, labels, returns, path)
            if evaluated:
                new = rows_of(end, figures)
                rows += new
            speed = program.lanes * (end - begin) / (time.monotonic() - clock)
            if (end - begin, learn) not in compiled:
                compiled.add((end - begin, learn))
                speed = math.nan
            if on_report:
                on_report(Report(end, config.steps, program.lanes, speed, new))
            if evaluated:
                call(Evaluation(end, config.steps, new, speed, stop.request))
            begin = end
            usual = min(CHECKPOINT_SECONDS, max(FIRST_SECONDS, saved - started))
            wait = max(usual, cost / CHECKPOINT_SHARE)
            if time.monotonic() - saved > wait or stop.requested or end == config.steps:
                clock = time.monotonic()
                save()
                saved = time.monotonic()
                cost = saved - clock
            if stop.requested:
                break
    return state, rows


def boundaries(config: Settings, start: int) -> list[tuple[int, bool, bool]]:
    """Chunks from `start` on, as (end, whether it learns, whether an evaluation follows)."""
    cuts = {*range(0, config.steps, config.evaluate_every), config.random_steps, config.steps}
    ends = sorted(end for end in cuts if start < end <= config.steps)
    return [
        (
            end,
            begin >= config.random_steps,
            end % config.evaluate_every == 0 or end == config.steps,
        )
        for begin, end in zip([start, *ends], ends, strict=False)
    ]
