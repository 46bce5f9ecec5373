"""`omd.train` and `omd.load`: a run from its settings to its picture."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omd.callbacks import Callback, Evaluation, checked, tracker
from omd.config import SETTINGS, Config
from omd.errors import InputError, closest
from omd.runs import run as runs
from omd.runs.progress import display
from omd.runs.run import Run, load
from omd.sweeps import driver
from omd.sweeps.store import Sweep

__all__ = ["load", "sweep", "train"]


def train(
    config: Config | str | None = None,
    *,
    out: str | os.PathLike | None = "runs",
    name: str | None = None,
    resume: str | os.PathLike | None = None,
    callbacks: Sequence[Callback | Callable[[Evaluation], Any]] = (),
    track: str | None = None,
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Train all seeds of a configuration, or go on with a run, and draw its learning curve.

    `config` is a `Config`, or an environment's id with the other fields of `Config` as `settings`:
    train("CartPole-v1", objective="omd", seeds=4). The run's folder is `out`/`name` (numbered by
    itself where there is no name); with out=None nothing is written at all. `resume` is the folder
    of a run that was stopped; `config` is then optional and must be the run's own.

    `callbacks` are called with an `Evaluation` after each evaluation, the one before the first
    step included; its `stop()` ends the run. They are functions or instances of
    `omd.callbacks.Callback`, such as StopAtReturn(450). `track`, "tensorboard" or "wandb", is short
    for that callback. Ctrl-C, SIGTERM and a callback's stop end the run after the current chunk,
    with a checkpoint: `run.finished` is then false. Raises `InputError` for settings that can't
    work, before anything is written.
    """
    asked = _asked(config, settings)
    listeners = checked(callbacks) + ([] if track is None else [tracker(track)])
    if resume is not None and out is None:
        raise InputError(f"out is None, but resume={str(resume)!r} is a folder: don't give out")
    with display(shown=progress) as shown:
        if resume is None:
            run = runs.start(asked or Config(), out=out, name=name, listeners=shown + listeners)
        else:
            run = runs.resume(resume, asked, listeners=shown + listeners)
    if run.path is not None:
        from omd.figures import learning_curve  # nobody waits for matplotlib before the first step

        learning_curve.draw(run.metrics, run.config, run.path / "learning-curve.png")
    return run


def _asked(config: Config | str | None, settings: dict[str, Any]) -> Config | None:
    """A configuration from one, or from its fields."""
    for field in settings:
        closest("setting", field, SETTINGS)
    if isinstance(config, Config):
        return dataclasses.replace(config, **settings) if settings else config
    if config is not None:
        settings = {"env": config, **settings}
    return Config(**settings) if settings else None


def sweep(
    source: driver.Source = None,
    *,
    options: Mapping[str, Sequence[Any]] | None = None,
    out: str | os.PathLike | None = None,
    engine: driver.Engine = "local",
    address: str | None = None,
    workers: int | None = None,
    group_size: int | None = None,
    progress: bool = True,
) -> Sweep:
    """Run a grid of settings, or what is missing of it, and write its results.

    `source` is a shipped sweep's name, a TOML file, a mapping like such a file, or the folder of a
    sweep that has begun; `options` gives settings one or more values each in place of its own. The
    folder is `out`, by default sweeps/NAME. `engine` is "local": one worker process a device; or
    "ray", with the `address` of a cluster that shares the folder. `omd.results` reads the numbers.
    Groups that failed stay missing there. Raises `InputError` for bad input, for a folder that
    holds another sweep, and where the folder can't be written.
    """
    return driver.run(
        source,
        options=options,
        out=out,
        engine=engine,
        address=address,
        workers=workers,
        group_size=group_size,
        progress=progress,
    )
