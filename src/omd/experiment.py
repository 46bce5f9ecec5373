"""`omd.train` and `omd.load`: a run from its settings to its picture."""

from __future__ import annotations

import os

from omd.config import Config
from omd.figures import learning_curve
from omd.training import run as runs
from omd.training.progress import display
from omd.training.run import Run, load

__all__ = ["load", "train"]


def train(
    config: Config | None = None,
    *,
    out: str | os.PathLike = "runs",
    name: str | None = None,
    resume: str | os.PathLike | None = None,
    track: str | None = None,
    progress: bool = True,
) -> Run:
    """Train all seeds of a configuration, or go on with a run, and draw its learning curve.

    The run's folder is `out`/`name` (numbered by itself where there is no name). `resume` is the
    folder of a run that was stopped; `config` is then optional and must be the run's own. `track`
    is "tensorboard" or nothing. Ctrl-C and SIGTERM stop after the current chunk, with a
    checkpoint: `run.finished` tells. Raises `InputError` for settings that can't work.
    """
    with display(progress) as on_report:
        if resume is None:
            run = runs.start(
                config or Config(), out=out, name=name, track=track, on_report=on_report
            )
        else:
            run = runs.resume(resume, config, track=track, on_report=on_report)
    learning_curve.draw(run.metrics, run.config, run.path / "learning-curve.png")
    return run
