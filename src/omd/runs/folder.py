"""Between a run's folder and its program: what is written, and how it is brought back."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from omd import envs, parts
from omd.config import Config, env_text
from omd.errors import InputError
from omd.runs import files
from omd.settings import Settings, resolve
from omd.training import replay
from omd.training.program import LaneState, Program

METRICS, CHECKPOINT, DIVERGED = "metrics.parquet", "checkpoint.safetensors", "diverged.json"


def precision(config: Config) -> contextlib.AbstractContextManager[None]:
    """64-bit arithmetic for the block, where the run asks for it."""
    return jax.enable_x64(config.precision == "float64")


def lanes_of(settings: Settings) -> list[Settings]:
    """The settings of each lane: one seed each."""
    return [dataclasses.replace(settings, seeds=(seed,)) for seed in settings.seed_list]


def make_env(config: Config, lanes: int) -> envs.Env:
    """A configuration's environment; raises `InputError` where it can't be made."""
    return envs.make(
        config.env,
        lanes=lanes,
        arguments=config.env_arguments,
        distractors=config.distractors,
        distractor_kind=config.distractor_kind,
        dtype=jnp.dtype(config.precision),
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


def save(program: Program, state: LaneState, folder: pathlib.Path, rows: pd.DataFrame) -> None:
    """Metrics first: a checkpoint never stands before them."""
    files.write_frame(folder / METRICS, rows)
    state = jax.tree.map(lambda x: x[: program.lanes], state)
    used = _used_slots(program, int(np.asarray(state.step)[0]))

    def trimmed(x: Any) -> Any:
        # sliced on the host: a slice on the device would compile for each length
        return np.asarray(x)[:, :used] if x.ndim == 3 else x

    state = state._replace(replay=jax.tree.map(trimmed, state.replay))
    files.save_checkpoint(folder / CHECKPOINT, state, program.env.snapshot())


def restore(program: Program, lanes: list[Settings], folder: pathlib.Path) -> LaneState:
    """The state of the lanes in a folder's checkpoint, on the devices."""
    if not (folder / CHECKPOINT).exists():
        raise InputError(f"{folder} has no checkpoint yet: let it train first")
    arrays = files.read_checkpoint(folder / CHECKPOINT)
    like = jax.eval_shape(lambda: program.fresh(lanes))
    used = _used_slots(program, int(arrays.get("state/step", [0])[0]))

    def trimmed(x: Any) -> Any:
        if x.ndim < 3:
            return x
        return jax.ShapeDtypeStruct((x.shape[0], used, x.shape[2]), x.dtype)

    def full(x: Any, like: Any) -> Any:
        missing = [(0, a - b) for a, b in zip(like.shape, x.shape, strict=True)]
        return np.pad(x, missing) if x.ndim == 3 else x

    state = files.state_of(arrays, like._replace(replay=jax.tree.map(trimmed, like.replay)))
    program.env.restore(files.extra_of(arrays))
    return program.place(state._replace(replay=jax.tree.map(full, state.replay, like.replay)))


def _used_slots(program: Program, step: int) -> int:
    """Slots of the replay buffer that hold something after so many steps."""
    capacity = program.config.capacity
    slots = replay.slots(program.env.spec, capacity)
    return min(step + slots - capacity, slots)


def note_divergences(
    program: Program,
    labels: Sequence[Mapping[str, int]],
    returns: np.ndarray | None,
    folder: pathlib.Path | None,
) -> set[int]:
    """Numbers of the lanes whose simulator gave what isn't finite, in training or in an evaluation
    with these `returns`; each goes to the folder, if there is one, when it is first seen, with
    step and action."""
    found = {i: f"in training, {d}" for i, d in program.env.divergences().items()}
    for index, divergence in program.evaluation_env.divergences().items():
        i = index // program.config.evaluate_episodes
        # an evaluation goes on past the ends of episodes, with steps that don't count
        if i < program.lanes and returns is not None and not np.isfinite(returns[i]):
            found.setdefault(i, f"in an evaluation, {divergence}")
    told = {labels[i]["lane"]: (labels[i]["seed"], d) for i, d in found.items() if i < len(labels)}
    if folder is None:
        return set(told)
    known = read_divergences(folder)
    if told.keys() - known.keys():
        files.write_json(folder / DIVERGED, {str(k): v for k, v in (told | known).items()})
    return set(told)


def read_divergences(folder: pathlib.Path) -> dict[int, tuple[int, str]]:
    """By lane number: seed, and where and why its simulator stopped making sense."""
    if not (folder / DIVERGED).exists():
        return {}
    told = files.read_json(folder / DIVERGED)
    return {int(lane): (seed, sentence) for lane, (seed, sentence) in told.items()}


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
    elif not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
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
