"""A run and its folder: configuration, metrics, checkpoint, provenance; training and resuming."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import re
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from omd import envs
from omd.config import Config
from omd.training import devices, files
from omd.training.loop import LaneState, Program, boundaries
from omd.training.provenance import provenance
from omd.training.signals import Stop
from omd.training.track import check_tracker, open_tracker
from omd.types import InputError

METRICS, CHECKPOINT = "metrics.parquet", "checkpoint.safetensors"
CHECKPOINT_SECONDS = 60.0
LAST = 10
"""Evaluations over which the final return of a lane is averaged."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What a progress display is told after each chunk."""

    step: int
    steps: int
    lanes: int
    lane_steps_per_second: float
    """Of the last chunk, its evaluation included; NaN for chunks that compiled."""
    rows: list[dict[str, Any]]


class Run:
    """A run folder: `config`, `metrics`, and the trained lanes, which can `act`."""

    def __init__(self, path: pathlib.Path, config: Config, metrics: pd.DataFrame) -> None:
        self.path, self.config, self.metrics = path, config, metrics

    @property
    def step(self) -> int:
        """Environment steps of each lane so far."""
        return 0 if self.metrics.empty else int(self.metrics["step"].max())

    @property
    def finished(self) -> bool:
        return self.step >= self.config.steps

    def final_returns(self) -> pd.Series:
        """Mean return over the last ten evaluations, by seed."""
        ordered = self.metrics.sort_values("step")
        return ordered.groupby("seed")["episode_return"].apply(lambda x: x.tail(LAST).mean())

    def diverged(self) -> dict[int, int]:
        """Seeds whose numbers stopped being finite, with the step at which that was seen."""
        rows = self.metrics[self.metrics["diverged"]]
        return {int(k): int(v) for k, v in rows.groupby("seed")["step"].min().items()}

    def act(self, observation: Any, *, seed: int | None = None) -> np.ndarray:
        """The trained policy's most probable actions, int32, NumPy in and out.

        `observation` is [obs] or [batch, obs]; `seed` picks a lane, the first by default. Raises
        `InputError` for an observation of another size or an unknown seed.
        """
        observation = np.asarray(observation)
        size = self._program.env.spec.observation_size
        if observation.ndim not in (1, 2) or observation.shape[-1] != size:
            raise InputError(
                f"observation has shape {observation.shape}: give [{size}] or [batch, {size}]"
            )
        seeds = self.config.seed_list
        if seed is not None and seed not in seeds:
            raise InputError(f"seed {seed} is none of this run's: {', '.join(map(str, seeds))}")
        lane = 0 if seed is None else seeds.index(seed)
        with precision(self.config):
            w = jax.tree.map(lambda x: x[lane], self._state.agent.learner.w)
            actions = self._greedy(
                w, jnp.asarray(np.atleast_2d(observation), self.config.precision)
            )
        return np.asarray(actions).reshape(observation.shape[:-1])

    def evaluate(self, episodes: int, *, seed: int = 0) -> pd.DataFrame:
        """Mean return and length of fresh episodes of every lane: seed, episode_return, ….

        `seed` draws other episodes. The policy is the stochastic one of training, without ε.
        """
        if episodes < 1:
            raise InputError(f"episodes is {episodes}: give at least 1")
        config = dataclasses.replace(self.config, evaluate_episodes=episodes)
        with precision(config):
            program = _program(config)
            state = _restore(program, config, self.path)
            key = jax.vmap(lambda k: jax.random.fold_in(k, 2**31 + seed))(state.key)
            metrics = program.evaluate(state._replace(key=key))
            columns = {k: np.asarray(v)[: program.lanes] for k, v in metrics.items()}
        return pd.DataFrame({"seed": config.seed_list, **columns})

    @functools.cached_property
    def _program(self) -> Program:
        with precision(self.config):
            return _program(self.config)

    @functools.cached_property
    def _state(self) -> LaneState:
        with precision(self.config):
            return _restore(self._program, self.config, self.path)

    @functools.cached_property
    def _greedy(self):
        learner = self._program.agent.learner
        return jax.jit(lambda w, x: jnp.argmax(sum(learner.q(w, x)), axis=0).astype(jnp.int32))


def precision(config: Config) -> contextlib.AbstractContextManager:
    """64-bit arithmetic for the block, where the run asks for it."""
    return jax.enable_x64(config.precision == "float64")


def load(path: str | os.PathLike) -> Run:
    """A run from its folder; raises `InputError` if it is none."""
    folder = pathlib.Path(path)
    config = Config.of_run(folder)
    if not (folder / METRICS).is_file():
        return Run(folder, config, pd.DataFrame(columns=["lane", "seed", "step", "diverged"]))
    return Run(folder, config, pd.read_parquet(folder / METRICS))


def start(
    config: Config,
    *,
    out: str | os.PathLike = "runs",
    name: str | None = None,
    track: str | None = None,
    on_report: Callable[[Report], None] | None = None,
) -> Run:
    """Train a new run in `out`/`name`. Raises `InputError` before anything is written."""
    check_tracker(track)
    devices.prepare(len(config.seed_list))
    with precision(config):
        program = _program(config)
        folder = _new_folder(pathlib.Path(out), name, config)
        files.write_json(folder / "config.json", config.to_dict())
        files.write_json(folder / "provenance.json", {"sessions": [provenance()]})
        return _train(
            program,
            program.place(program.fresh(_lanes(config))),
            config,
            folder,
            [],
            track,
            on_report,
        )


def resume(
    path: str | os.PathLike,
    config: Config | None = None,
    *,
    track: str | None = None,
    on_report: Callable[[Report], None] | None = None,
) -> Run:
    """Go on with a run where its last checkpoint left it; `config`, if given, must be its own."""
    run = load(path)
    if config is not None and config.to_dict() != run.config.to_dict():
        mine, theirs = config.to_dict(), run.config.to_dict()
        other = [
            f"{k} is {theirs[k]!r} there, not {mine[k]!r}" for k in mine if mine[k] != theirs[k]
        ]
        raise InputError(
            f"{run.path} was written with other settings: {'; '.join(other)}; resume without them"
        )
    if run.finished:
        return run
    check_tracker(track)
    config = run.config
    devices.prepare(len(config.seed_list))
    with precision(config):
        program = _program(config)
        if (run.path / CHECKPOINT).exists():
            state = _restore(program, config, run.path)
        else:
            state = program.place(program.fresh(_lanes(config)))
        step = int(np.asarray(state.step)[0])
        rows = run.metrics[run.metrics["step"] <= step].to_dict("records")
        history = files.read_json(run.path / "provenance.json")
        history["sessions"].append(provenance() | {"from_step": step})
        files.write_json(run.path / "provenance.json", history)
        return _train(program, state, config, run.path, rows, track, on_report)


def _train(
    program: Program,
    state: LaneState,
    config: Config,
    folder: pathlib.Path,
    rows: list[dict[str, Any]],
    track: str | None,
    on_report: Callable[[Report], None] | None,
) -> Run:
    tracker = open_tracker(track, folder)
    diverged = {row["lane"] for row in rows if row["diverged"]}
    saved = time.monotonic()
    compiled: set[tuple[int, bool]] = set()
    with Stop() as stop:
        begin = int(np.asarray(state.step)[0])
        if begin == 0:
            rows += _rows(program, config, 0, program.evaluate(state), diverged)
        for end, learn, evaluated in boundaries(config, begin):
            clock = time.monotonic()
            state, metrics = program.advance(state, end - begin, learn)
            metrics = {k: np.asarray(v) for k, v in metrics.items()}
            finite = metrics.pop("finite")
            diverged |= {lane for lane in range(program.lanes) if not finite[lane]}
            new = []
            if evaluated:
                metrics |= {k: np.asarray(v) for k, v in program.evaluate(state).items()}
                new = _rows(program, config, end, metrics, diverged)
                rows += new
            speed = program.lanes * (end - begin) / (time.monotonic() - clock)
            if (end - begin, learn) not in compiled:
                compiled.add((end - begin, learn))
                speed = float("nan")
            for row in new if tracker else ():
                tracker.log(row)  # type: ignore[union-attr]
            if on_report:
                on_report(Report(end, config.steps, program.lanes, speed, new))
            begin = end
            if (
                time.monotonic() - saved > CHECKPOINT_SECONDS
                or stop.requested
                or end == config.steps
            ):
                _save(program, state, folder, rows)
                saved = time.monotonic()
            if stop.requested:
                break
    if tracker:
        tracker.close()
    return Run(folder, config, pd.DataFrame(rows))


def _rows(
    program: Program, config: Config, step: int, metrics: dict[str, Any], diverged: set[int]
) -> list[dict[str, Any]]:
    return [
        {
            "lane": lane,
            "seed": seed,
            "step": step,
            **{name: float(np.asarray(values)[lane]) for name, values in metrics.items()},
            "diverged": lane in diverged,
        }
        for lane, seed in enumerate(config.seed_list)
    ]


def _lanes(config: Config) -> list[Config]:
    return [dataclasses.replace(config, seeds=(seed,)) for seed in config.seed_list]


def _program(config: Config) -> Program:
    lanes = len(config.seed_list)
    make = functools.partial(
        envs.make, config.env, distractors=config.distractors, dtype=jnp.dtype(config.precision)
    )
    evaluation = make(lanes=lanes * config.evaluate_episodes)
    return Program(config, make(lanes=lanes), evaluation, lanes, config.model_hidden)


def _save(program: Program, state: LaneState, folder: pathlib.Path, rows: list) -> None:
    """Metrics first: a checkpoint never stands before them."""
    files.write_frame(folder / METRICS, pd.DataFrame(rows))
    state = jax.tree.map(lambda x: x[: program.lanes], state)
    held = min(int(np.asarray(state.step)[0]), program.config.capacity)
    buffers = state.replay._replace(rows=np.asarray(state.replay.rows)[:, :held])
    state = state._replace(replay=buffers)
    files.save_checkpoint(folder / CHECKPOINT, state, program.env.snapshot())


def _restore(program: Program, config: Config, folder: pathlib.Path) -> LaneState:
    if not (folder / CHECKPOINT).exists():
        raise InputError(f"{folder} has no checkpoint yet: let it train first")
    arrays = files.read_checkpoint(folder / CHECKPOINT)
    like = jax.eval_shape(lambda: program.fresh(_lanes(config)))
    rows = like.replay.rows
    held = min(int(arrays.get("state/step", [0])[0]), config.capacity)
    trimmed = jax.ShapeDtypeStruct((rows.shape[0], held, rows.shape[2]), rows.dtype)
    state = files.state_of(arrays, like._replace(replay=like.replay._replace(rows=trimmed)))
    full = np.pad(state.replay.rows, [(0, 0), (0, config.capacity - held), (0, 0)])
    program.env.restore(files.extra_of(arrays))
    return program.place(state._replace(replay=state.replay._replace(rows=full)))


def _new_folder(out: pathlib.Path, name: str | None, config: Config) -> pathlib.Path:
    """Make the run's folder; raises `InputError` if it exists or can't be made."""
    if name is None:
        stem = re.sub(r"[^\w.-]+", "-", f"{config.env}-{config.objective}")
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
