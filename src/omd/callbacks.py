"""What is called after each evaluation of a run: callbacks of one's own, and those that ship."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from omd import parts
from omd.errors import InputError, closest, install
from omd.settings import Settings
from omd.types import PyTree

__all__ = ["Callback", "Evaluation", "Print", "Record", "StopAtReturn", "TensorBoard", "WandB"]

LABELS = ("lane", "seed", "step", "diverged")
"""Columns of a row that say where its numbers come from; the others are the numbers."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a callback gets: the rows that an evaluation adds to `run.metrics`."""

    step: int
    """Environment steps of each lane so far."""
    steps: int
    """Those that the run was asked for."""
    rows: Sequence[Mapping[str, Any]]
    """One for each lane: lane, seed, step, episode_return, the training metrics, diverged."""
    lane_steps_per_second: float
    """Of the steps since the last report, this evaluation included; NaN where they compiled."""
    stop: Callable[[], None]
    """Ends the run after this evaluation, with a checkpoint, as Ctrl-C does."""

    @property
    def mean_return(self) -> float:
        """Mean of `episode_return` over the lanes where it is finite; NaN where none is."""
        returns = [row["episode_return"] for row in self.rows]
        finite = [one for one in returns if math.isfinite(one)]
        return float(np.mean(finite)) if finite else math.nan

    def numbers(self) -> Iterator[tuple[int, str, Any]]:
        """Seed, name and value of every number of every lane."""
        for row in self.rows:
            for name, value in row.items():
                if name not in LABELS:
                    yield row["seed"], name, value


@dataclasses.dataclass
class Record:
    """What callbacks are told after each chunk, the steps between two looks from outside."""

    evaluation: Evaluation
    """Its rows are empty where no evaluation followed the chunk."""
    state: PyTree
    """The lanes after the chunk; the next chunk takes their memory."""
    rows: Sequence[Mapping[str, Any]]
    """Those of all evaluations so far."""
    divergences: Mapping[int, tuple[int, str]]
    """By number, the lanes whose simulator gave what isn't finite: their seeds, and where."""
    stopping: Callable[[], bool]
    """Whether somebody has asked the run to end."""
    errors: list[BaseException] = dataclasses.field(default_factory=list)
    """Of the callbacks that were told before."""

    @property
    def last(self) -> bool:
        """Whether the run ends here, as far as is known by now."""
        done = self.evaluation.step >= self.evaluation.steps
        return done or self.stopping() or bool(self.errors)


class Callback:
    """Base of callbacks that need to know when a run begins and ends; else a function of an
    `Evaluation` is enough.

    An error that one raises ends the run, after the other callbacks were called and its last step
    was saved; it says so in a note.
    """

    @property
    def name(self) -> str:
        """What messages call it."""
        return type(self).__name__

    def begin(self, settings: Settings, path: pathlib.Path | None) -> None:
        """Called once before the first step, with all settings and the folder, None without."""

    def __call__(self, evaluation: Evaluation) -> None:
        """Called after each evaluation, the one before the first step included."""

    def after_chunk(self, record: Record) -> None:
        """Called after each chunk; by itself it only hands on an evaluation."""
        if record.evaluation.rows:
            self(record.evaluation)

    def end(self) -> None:
        """Called once after the last step, also where the run was stopped or failed."""


@dataclasses.dataclass
class StopAtReturn(Callback):
    """Stops once the mean return over lanes has been `value` or more in `evaluations` of them in
    a row. Raises `InputError` for fewer than one, and for a value that isn't a finite number."""

    value: float
    evaluations: int = 1

    def __post_init__(self) -> None:
        if np.ndim(self.value):
            raise InputError(f"value is {self.value!r}: give one number")
        parts.check(self, "StopAtReturn")
        self.evaluations = parts.count("evaluations", self.evaluations)

    def begin(self, settings: Settings, path: pathlib.Path | None) -> None:
        """Forget an earlier run."""
        self._reached = 0

    def __call__(self, evaluation: Evaluation) -> None:
        """Stop where it was reached often enough."""
        self._reached = self._reached + 1 if evaluation.mean_return >= self.value else 0
        if self._reached >= self.evaluations:
            evaluation.stop()


@dataclasses.dataclass
class Print(Callback):
    """A line on standard output for every `every`-th evaluation."""

    every: int = 1

    def __post_init__(self) -> None:
        self.every = parts.count("every", self.every)

    def begin(self, settings: Settings, path: pathlib.Path | None) -> None:
        """Count from the beginning."""
        self._seen = 0

    def __call__(self, evaluation: Evaluation) -> None:
        """Print the step, and the mean over lanes of every number."""
        if self._seen % self.every == 0:
            by_name: dict[str, list[float]] = {}
            for _, name, value in evaluation.numbers():
                by_name.setdefault(name, []).append(value)
            means = (f"{name} {np.mean(values):.4g}" for name, values in by_name.items())
            print(f"step {evaluation.step} of {evaluation.steps}:", ", ".join(means), flush=True)
        self._seen += 1


class TensorBoard(Callback):
    """Every number of every lane as a TensorBoard scalar `NUMBER/seed-SEED`.

    In `folder`, by default `tensorboard` in the run's own. Raises `InputError` where tensorboardX
    is missing, and where there is no folder.
    """

    def __init__(self, folder: str | pathlib.Path | None = None) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise InputError(f"tensorboard needs a package: {install('track')}") from error
        self._writer_class = SummaryWriter
        self.folder = folder

    def begin(self, settings: Settings, path: pathlib.Path | None) -> None:
        """Open the event file."""
        if self.folder is None and path is None:
            raise InputError("TensorBoard has no folder, nor has the run: give TensorBoard one")
        self._writer = self._writer_class(str(self.folder or path / "tensorboard"))  # type: ignore[operator]

    def __call__(self, evaluation: Evaluation) -> None:
        """Write the scalars."""
        for seed, name, value in evaluation.numbers():
            self._writer.add_scalar(f"{name}/seed-{seed}", value, evaluation.step)

    def end(self) -> None:
        """Close the event file."""
        self._writer.close()


class WandB(Callback):
    """Every number of every lane to Weights & Biases, as `seed-SEED/NUMBER`, with the settings.

    `arguments` are those of `wandb.init`, such as project="omd". Raises `InputError` where wandb is
    missing.
    """

    def __init__(self, **arguments: Any) -> None:
        try:
            import wandb
        except ImportError as error:
            raise InputError(f"wandb needs a package: {install('wandb')}") from error
        self._wandb = wandb
        self.arguments = arguments

    def begin(self, settings: Settings, path: pathlib.Path | None) -> None:
        """Start a run there."""
        defaults = {"config": settings.to_dict()} | ({} if path is None else {"dir": path})
        self._run = self._wandb.init(**{**defaults, **self.arguments})

    def __call__(self, evaluation: Evaluation) -> None:
        """Log one record for all lanes."""
        numbers = {f"seed-{seed}/{name}": value for seed, name, value in evaluation.numbers()}
        self._run.log(numbers, step=evaluation.step)

    def end(self) -> None:
        """Finish the run there."""
        self._run.finish()


TRACKERS: Mapping[str, Callable[[], Callback]] = {"tensorboard": TensorBoard, "wandb": WandB}
"""What `--track` may name."""


def tracker(name: str) -> Callback:
    """A shipped callback that sends numbers away, by its name; `InputError` for another."""
    return TRACKERS[closest("tracker", name, TRACKERS)]()


class _Function(Callback):
    """A plain function as a callback."""

    def __init__(self, function: Callable[[Evaluation], Any]) -> None:
        self._function = function

    @property
    def name(self) -> str:
        return getattr(self._function, "__qualname__", repr(self._function))

    def __call__(self, evaluation: Evaluation) -> None:
        self._function(evaluation)


def checked(callbacks: Any) -> list[Callback]:
    """Callbacks, functions among them; raises `InputError` for what can't be called, and for one
    that isn't in a list."""
    if callable(callbacks) or not isinstance(callbacks, Iterable):
        raise InputError(f"callbacks is {callbacks!r}: give a list, callbacks=[…]")
    callbacks = list(callbacks)
    for one in callbacks:
        if not callable(one) or isinstance(one, type):
            raise InputError(
                f"callback {one!r} can't be called: give a function of an evaluation, or an "
                "instance such as omd.callbacks.StopAtReturn(450)"
            )
    return [one if isinstance(one, Callback) else _Function(one) for one in callbacks]


@contextlib.contextmanager
def open_all(
    callbacks: Sequence[Callback], settings: Settings, path: pathlib.Path | None
) -> Iterator[None]:
    """Begin all callbacks; in the end, end those that have begun."""
    with contextlib.ExitStack() as stack:
        for callback in callbacks:
            callback.begin(settings, path)
            stack.callback(callback.end)
        yield
