"""Progress of a run: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import rich.console
import rich.progress

from omd.runs import symptoms
from omd.runs.session import Report

LINE_SECONDS = 10.0


@contextlib.contextmanager
def display(*, shown: bool) -> Iterator[Callable[[Report], None] | None]:
    """A callback for `run.start` and `run.resume` that shows how far they are."""
    console = rich.console.Console(stderr=True)
    if not shown:
        yield None
    elif not console.is_terminal:
        yield _Lines(console)
    else:
        columns = (
            rich.progress.TextColumn("[bold]{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[figures]}"),
        )
        with rich.progress.Progress(*columns, console=console) as bar:
            task = bar.add_task("compiling", total=None, figures="")
            figures = ""

            def update(report: Report) -> None:
                nonlocal figures
                figures = describe(report) or figures
                bar.update(
                    task,
                    description="training",
                    total=report.steps,
                    completed=report.step,
                    figures=figures,
                )

            yield update


def describe(report: Report) -> str:
    """The figures that matter: return over the seeds, error of the model, speed."""
    if not report.rows:
        return ""
    returns = np.array([row["episode_return"] for row in report.rows])
    returns = returns[np.isfinite(returns)]
    parts = [f"return {returns.mean():.1f}" if len(returns) else "no return"]
    if len(returns) > 1:
        parts[0] += f" ± {returns.std(ddof=1) / math.sqrt(len(returns)):.1f}"
    if "model_mse" in report.rows[0]:
        parts.append(f"model MSE {np.mean([row['model_mse'] for row in report.rows]):.3g}")
    if math.isfinite(report.lane_steps_per_second):
        parts.append(f"{report.lane_steps_per_second:,.0f} lane-steps/s")
    if diverged := sum(row["diverged"] for row in report.rows):
        parts.append(f"{diverged} diverged")
    parts += symptoms.in_short(report.rows)
    return "  ".join(parts)


class _Lines:
    """A line for the first chunks, then one every ten seconds, and one for the last."""

    def __init__(self, console: rich.console.Console) -> None:
        self._console = console
        self._shown = -math.inf

    def __call__(self, report: Report) -> None:
        now = time.monotonic()
        due = now - self._shown > LINE_SECONDS or report.step >= report.steps
        if report.rows and due:
            self._shown = now
            line = f"step {report.step:,} of {report.steps:,}  {describe(report)}"
            self._console.print(line, highlight=False, soft_wrap=True)
