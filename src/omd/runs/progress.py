"""Progress of a run: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator

import numpy as np
import rich.console
import rich.progress

from omd.callbacks import Callback, Evaluation, Record
from omd.runs import symptoms

LINE_SECONDS = 10.0


@contextlib.contextmanager
def display(*, shown: bool) -> Iterator[list[Callback]]:
    """A callback that shows how far a run is; none unless `shown`."""
    console = rich.console.Console(stderr=True)
    if not shown:
        yield []
    elif not console.is_terminal:
        yield [_Lines(console)]
    else:
        columns = (
            rich.progress.TextColumn("[bold]{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[figures]}"),
        )
        with rich.progress.Progress(*columns, console=console) as bar:
            yield [_Bar(bar)]


def describe(evaluation: Evaluation, begun: int | None = None) -> str:
    """The figures that matter: return over the seeds, error of the model, speed, and symptoms;
    `begun` is the step that `symptoms.first_learned` gave of the evaluations so far."""
    if not evaluation.rows:
        return ""
    returns = np.array([row["episode_return"] for row in evaluation.rows])
    returns = returns[np.isfinite(returns)]
    parts = [f"return {returns.mean():.1f}" if len(returns) else "no return"]
    if len(returns) > 1:
        parts[0] += f" ± {returns.std(ddof=1) / math.sqrt(len(returns)):.1f}"
    if "model_mse" in evaluation.rows[0]:
        parts.append(f"model MSE {np.mean([row['model_mse'] for row in evaluation.rows]):.3g}")
    if math.isfinite(evaluation.lane_steps_per_second):
        parts.append(f"{evaluation.lane_steps_per_second:,.0f} lane-steps/s")
    if diverged := sum(row["diverged"] for row in evaluation.rows):
        parts.append(f"{diverged} diverged")
    parts += symptoms.in_short(evaluation.rows, begun)
    return "  ".join(parts)


class _Shown(Callback):
    """Knows since when something is learned, as far as it has seen the run."""

    def __init__(self) -> None:
        self._begun: int | None = None

    def figures(self, evaluation: Evaluation) -> str:
        """What there is to say of an evaluation."""
        if self._begun is None:
            self._begun = symptoms.first_learned(evaluation.rows)
        return describe(evaluation, self._begun)


class _Bar(_Shown):
    """A bar with the figures of the last evaluation."""

    def __init__(self, bar: rich.progress.Progress) -> None:
        super().__init__()
        self._bar, self._figures = bar, ""
        self._task = bar.add_task("compiling", total=None, figures="")

    def after_chunk(self, record: Record) -> None:
        """Move on; the first chunk compiles."""
        evaluation = record.evaluation
        if evaluation.step == 0:
            return
        self._figures = self.figures(evaluation) or self._figures
        self._bar.update(
            self._task,
            description="training",
            total=evaluation.steps,
            completed=evaluation.step,
            figures=self._figures,
        )


class _Lines(_Shown):
    """A line for the first evaluation after step 0, then one every ten seconds, and one for the
    last."""

    def __init__(self, console: rich.console.Console) -> None:
        super().__init__()
        self._console = console
        self._shown = -math.inf

    def __call__(self, evaluation: Evaluation) -> None:
        """Print a line if it is time."""
        now = time.monotonic()
        due = now - self._shown > LINE_SECONDS or evaluation.step >= evaluation.steps
        figures = self.figures(evaluation)
        if evaluation.step and due:
            self._shown = now
            line = f"step {evaluation.step:,} of {evaluation.steps:,}  {figures}"
            self._console.print(line, highlight=False, soft_wrap=True)
