"""Between a run's folder and its program: what is written, and how it is brought back."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import pathlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import filelock
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from omd import envs, memory, parts
from omd.config import Config, env_text
from omd.errors import InputError, Notice
from omd.runs import files
from omd.settings import Settings, resolve
from omd.training import replay
from omd.training.chunk import LaneState
from omd.training.program import Program
from omd.types import PyTree

METRICS, DIVERGED = "metrics.parquet", "diverged.json"
CHECKPOINT, PREVIOUS = "checkpoint.safetensors", "previous.safetensors"
COLUMNS = ("lane", "seed", "step", "episode_return", "diverged")
"""That a run's metrics always have."""


def precision(config: Config) -> contextlib.AbstractContextManager[None]:
    """64-bit arithmetic for the block, where the run asks for it."""
    return jax.enable_x64(config.precision == "float64")


def lanes_of(settings: Settings) -> list[Settings]:
    """The settings of each lane: one seed each."""
    return [dataclasses.replace(settings, seeds=(seed,)) for seed in settings.seed_list]


def make_env(config: Config, lanes: int, **options: Any) -> envs.Env:
    """A configuration's environment; raises `InputError` where it can't be made. `options` are
    others of `envs.make`."""
    return envs.make(
        config.env,
        lanes=lanes,
        arguments=config.env_arguments,
        distractors=config.distractors,
        distractor_kind=config.distractor_kind,
        dtype=jnp.dtype(config.precision),
        **options,
    )


def program_of(config: Config, lanes: int | None = None) -> Program:
    """The program of a run, or of `lanes` lanes with models of up to `model_hidden` units; its
    `config` is the resolved one. Raises `InputError` where the environment can't be made, or
    settings don't go with it."""
    lanes = lanes or len(config.seed_list)
    env = make_env(config, lanes)
    settings = resolve(config, env.spec)
    evaluation = make_env(config, lanes * settings.evaluate_episodes)
    return Program(settings, env, evaluation, lanes, settings.model_hidden)


def check_memory(program: Program) -> None:
    """Raises `InputError` where the state of all lanes, and the random numbers of a chunk, need
    more memory than a CPU has."""
    if jax.devices()[0].platform == "cpu":
        config, lanes = program.config, lanes_of(program.config)
        minibatches = program.agent.objective.minibatches * config.batch_size
        draws = 4 * minibatches * min(config.evaluate_every, config.steps) * len(lanes)
        memory.check_draws(draws)
        memory.check_state(size_of(jax.eval_shape(lambda: program.fresh(lanes))))


def size_of(tree: PyTree) -> int:
    """Bytes of all arrays of a pytree, random keys included."""

    def one(leaf: Any) -> int:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        return math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize

    return sum(one(leaf) for leaf in jax.tree.leaves(tree))


@contextlib.contextmanager
def claimed(folder: pathlib.Path) -> Iterator[None]:
    """The run is this process's to train for the block. Raises `InputError` where another process
    trains it, and where the folder can't be written.

    The system gives the lock back when its process dies. Then what that process left of files goes.
    """
    lock = filelock.FileLock(folder / ".lock")
    with files.writing(folder):
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            raise InputError(
                f"{folder} is being trained by another process: wait until it ends, or stop it"
            ) from None
    try:
        files.remove_leftovers(folder)
        yield
    finally:
        lock.release()


def save(program: Program, state: LaneState, folder: pathlib.Path, rows: pd.DataFrame) -> None:
    """Metrics first, then the checkpoint, which is what counts: rows beyond its step, of a save
    that was cut between the two, are left out when they are read."""
    files.write_frame(folder / METRICS, rows)
    if program.padding:
        state = jax.tree.map(lambda x: x[: program.lanes], state)
    step = int(np.asarray(state.step)[0])
    used = _used_slots(program, step)

    def trimmed(x: Any) -> Any:
        # sliced on the host: a slice on the device would compile for each length
        return np.asarray(x)[:, :used] if x.ndim == 3 else x

    state = state._replace(replay=jax.tree.map(trimmed, state.replay))
    files.save_checkpoint(
        folder / CHECKPOINT,
        state,
        program.env.snapshot(),
        notes={"step": step, "rows": len(rows)},
        previous=folder / PREVIOUS,
    )
    if step >= program.config.steps:
        (folder / PREVIOUS).unlink(missing_ok=True)


def has_checkpoint(folder: pathlib.Path) -> bool:
    """Whether there is a checkpoint, or the one before it."""
    return (folder / CHECKPOINT).exists() or (folder / PREVIOUS).exists()


def restore(program: Program, lanes: list[Settings], folder: pathlib.Path) -> LaneState:
    """The state of the lanes in a folder's last good checkpoint, on the devices. Raises
    `InputError` where there is none that can be used."""
    return restored(program, lanes, last_good(folder), folder)


def restored(
    program: Program, lanes: list[Settings], arrays: Mapping[str, np.ndarray], folder: pathlib.Path
) -> LaneState:
    """The state of the lanes in the arrays of a folder's checkpoint, on the devices; raises
    `InputError` where they are of other settings."""
    like = jax.eval_shape(lambda: program.fresh(lanes))
    used = _used_slots(program, step_of(arrays))

    def trimmed(x: Any) -> Any:
        if x.ndim < 3:
            return x
        return jax.ShapeDtypeStruct((x.shape[0], used, x.shape[2]), x.dtype)

    def full(x: Any, like: Any) -> Any:
        missing = [(0, a - b) for a, b in zip(like.shape, x.shape, strict=True)]
        return np.pad(x, missing) if x.ndim == 3 else x

    try:
        state = files.state_of(arrays, like._replace(replay=jax.tree.map(trimmed, like.replay)))
    except InputError as error:
        raise InputError(f"{folder / CHECKPOINT} can't be used: {error}") from error
    program.env.restore(files.extra_of(arrays))
    return program.place(state._replace(replay=jax.tree.map(full, state.replay, like.replay)))


def step_of(arrays: Mapping[str, np.ndarray]) -> int:
    """The step at which a checkpoint with these arrays was written."""
    step = np.asarray(arrays.get("state/step", 0)).reshape(-1)
    return int(step[0]) if step.size else 0


def last_good(folder: pathlib.Path, *, mend: bool = False) -> dict[str, np.ndarray]:
    """Arrays of a folder's last checkpoint; with a warning, of the one before it where the last is
    damaged or missing. With `mend`, which training needs, that one then takes the last one's place.

    Raises `InputError` where there is none that can be used.
    """
    last, before = folder / CHECKPOINT, folder / PREVIOUS
    if not has_checkpoint(folder):
        raise InputError(f"{folder} has no checkpoint yet: let it train first")
    words = f"{last} is missing"
    if last.exists():
        try:
            return files.read_checkpoint(last)
        except files.FileError as error:
            if not before.exists():
                raise files.FileError(f"{error}, or train a new run") from error
            words = str(error)
    arrays = files.read_checkpoint(before)
    warnings.warn(
        f"{words}; the checkpoint before it, of step {step_of(arrays)}, is used",
        Notice,
        stacklevel=3,
    )
    if mend:
        if last.is_dir():
            raise files.FileError(f"{last} is a folder, where a checkpoint belongs: remove it")
        with files.writing(last):
            os.replace(before, last)
    return arrays


def history(folder: pathlib.Path) -> pd.DataFrame:
    """The metrics up to the checkpoint's step: what a save that was cut left beyond it isn't part
    of the run. Raises `InputError` where they are damaged, or missing beside a checkpoint."""
    notes: dict[str, Any] = {}
    words = ""
    for name in (CHECKPOINT, PREVIOUS):
        try:
            notes = files.read_notes(folder / name)
            break
        except files.FileError as error:
            words = words or str(error)
    if words and notes:
        warnings.warn(
            f"{words}; evaluations after step {notes['step']}, where the checkpoint before it was "
            "written, are left out",
            Notice,
            stacklevel=2,
        )
    path, advice = folder / METRICS, "put back a copy of it, or train a new run"
    if not path.exists():
        if not has_checkpoint(folder):
            return pd.DataFrame(columns=list(COLUMNS))
        raise files.FileError(f"{path} is missing, with all evaluations so far: {advice}")
    frame = files.read_frame(path, *COLUMNS)
    if notes:
        frame = frame[frame["step"] <= notes["step"]].reset_index(drop=True)
        if len(frame) < notes["rows"]:
            raise files.FileError(
                f"{path} has {len(frame)} rows, where the checkpoint was written with "
                f"{notes['rows']}: {advice}"
            )
    return frame


def begun(folder: pathlib.Path, metrics: pd.DataFrame) -> bool:
    """Whether there is a checkpoint to go on from. Raises `InputError` where there is none but
    there was one: evaluations after step 0 are written only with it."""
    if has_checkpoint(folder):
        return True
    if len(metrics) and metrics["step"].max() > 0:
        raise files.FileError(
            f"{folder / CHECKPOINT} is missing: put back a copy of it, or train a new run"
        )
    return False


def _used_slots(program: Program, step: int) -> int:
    """Slots of the replay buffer that hold something after so many steps."""
    capacity = program.config.capacity
    slots = replay.slots(program.env.spec, capacity)
    return min(step + slots - capacity, slots)


def divergences(
    program: Program, labels: Sequence[Mapping[str, int]], returns: np.ndarray | None
) -> dict[int, tuple[int, str]]:
    """By number, the lanes whose simulator gave what isn't finite, in training or in an evaluation
    with these `returns`: seed, and a sentence with step and action."""
    found = {i: f"in training, {d}" for i, d in program.env.divergences().items()}
    for index, divergence in program.evaluation_env.divergences().items():
        i = index // program.config.evaluate_episodes
        # an evaluation goes on past the ends of episodes, with steps that don't count
        if i < program.lanes and returns is not None and not np.isfinite(returns[i]):
            found.setdefault(i, f"in an evaluation, {divergence}")
    return {labels[i]["lane"]: (labels[i]["seed"], d) for i, d in found.items() if i < len(labels)}


def note_divergences(found: Mapping[int, tuple[int, str]], folder: pathlib.Path) -> None:
    """Write those that the folder doesn't hold yet; the first words about a lane stay."""
    known = read_divergences(folder) if found else {}
    if found.keys() - known.keys():
        files.write_json(folder / DIVERGED, {str(k): v for k, v in ({**found, **known}).items()})


def read_divergences(folder: pathlib.Path) -> dict[int, tuple[int, str]]:
    """By lane number: seed, and where and why its simulator stopped making sense."""
    if not (folder / DIVERGED).exists():
        return {}
    told, found = files.read_json(folder / DIVERGED), {}
    with contextlib.suppress(TypeError, ValueError):
        found = {int(lane): (int(seed), str(words)) for lane, (seed, words) in told.items()}
    if not found:  # it is written only where there is something to tell
        raise files.FileError(
            f"{folder / DIVERGED} can't be read: it holds no seeds and sentences by lane"
        )
    return found


def new_folder(out: pathlib.Path, name: str | None, config: Settings) -> pathlib.Path:
    """Make the run's folder; raises `InputError` if it exists or can't be made."""
    if name is None:
        stem = re.sub(
            r"[^\w.-]+",
            "-",
            "-".join(
                _short(t) for t in (env_text(config.env), parts.text_of(type(config.objective)))
            ),
        )
        numbers = (i for i in range(1, 10**6) if not (out / f"{stem}-{i}").exists())
        name = f"{stem}-{next(numbers)}"
    elif not isinstance(name, str) or not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
        raise InputError(f"name is {name!r}: use letters, digits, '.', '_' and '-'")
    folder = out / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise InputError(
            f"a run {name!r} exists in {out}: choose another name, or go on with --resume {folder}"
        ) from error
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error.strerror}") from error
    return folder


def _short(text: str) -> str:
    """A name without the module before it."""
    return text.rpartition(":")[2] if re.fullmatch(r"[\w.]+:[A-Za-z_][\w.]*", text) else text
