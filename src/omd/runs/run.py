"""A run and its folder: configuration, metrics, checkpoint, provenance; training and resuming."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from omd import envs
from omd.config import Config
from omd.errors import InputError
from omd.runs import files, folder, session, stored
from omd.runs.provenance import made_with
from omd.runs.session import Report
from omd.runs.trackers import check_tracker, open_tracker
from omd.settings import Settings, resolve
from omd.training.program import LaneState, Program

LAST = 10
"""Evaluations over which the final return of a lane is averaged."""


class Run:
    """A run folder: `config`, `metrics`, and the trained lanes, which can `act`."""

    def __init__(self, path: pathlib.Path, config: Settings, metrics: pd.DataFrame) -> None:
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
        first = rows.groupby("seed")["step"].min()
        return dict(zip(first.index.tolist(), first.tolist(), strict=True))

    def divergences(self) -> dict[int, str]:
        """Of these, the seeds whose simulator gave what isn't finite: the step, the action, why."""
        return dict(folder.read_divergences(self.path).values())

    def act(self, observation: Any, *, seed: int | None = None) -> np.ndarray:
        """The trained policy's most probable actions, NumPy in and out: int32, or floats in the
        environment's range with a last axis for an action's components.

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
        with folder.precision(self.config):
            learner = jax.tree.map(lambda x: x[lane], self._state.agent.learner)
            actions = self._greedy(
                learner, jnp.asarray(np.atleast_2d(observation), self.config.precision)
            )
        return np.asarray(actions).reshape((*observation.shape[:-1], *actions.shape[1:]))

    def predict(
        self,
        observation: Any,
        state: None = None,
        episode_start: None = None,
        deterministic: bool = True,  # noqa: FBT001, FBT002 (the place it has in SB3)
    ) -> tuple[np.ndarray, None]:
        """(action, None), as a policy of Stable-Baselines3 answers; of the first seed.

        `observation` is [obs] or [batch, obs]. Raises `InputError` for another size, and where
        `deterministic` is false: draw actions with `run.evaluate`.
        """
        if not deterministic:
            raise InputError(
                "deterministic is False, but predict gives the most probable action only: leave "
                "it out"
            )
        return self.act(observation), None

    def evaluate(self, episodes: int, *, seed: int = 0) -> pd.DataFrame:
        """Mean return and length of fresh episodes of every lane: seed, episode_return, ….

        `seed` draws other episodes. The policy is the stochastic one of training, without ε.
        """
        if episodes < 1:
            raise InputError(f"episodes is {episodes}: give at least 1")
        config = dataclasses.replace(self.config, evaluate_episodes=episodes)
        with folder.precision(config):
            program = folder.program_of(config)
            state = folder.restore(program, folder.lanes_of(config), self.path)
            key = jax.vmap(lambda k: jax.random.fold_in(k, 2**31 + seed))(state.key)
            metrics = program.evaluate(state._replace(key=key))
            columns = {k: np.asarray(v)[: program.lanes] for k, v in metrics.items()}
        return pd.DataFrame({"seed": config.seed_list, **columns})

    @functools.cached_property
    def _program(self) -> Program:
        with folder.precision(self.config):
            return folder.program_of(self.config)

    @functools.cached_property
    def _state(self) -> LaneState:
        with folder.precision(self.config):
            return folder.restore(self._program, folder.lanes_of(self.config), self.path)

    @functools.cached_property
    def _greedy(self):
        return jax.jit(self._program.agent.learner.greedy)


def load(path: str | os.PathLike) -> Run:
    """A run from its folder; raises `InputError` if it is none."""
    path = pathlib.Path(path)
    config = stored.read_settings(path)
    if not (path / folder.METRICS).is_file():
        return Run(path, config, pd.DataFrame(columns=["lane", "seed", "step", "diverged"]))
    return Run(path, config, pd.read_parquet(path / folder.METRICS))


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
    with folder.precision(config):
        program = folder.program_of(config)
        config = program.config
        values = stored.to_json(config)
        path = folder.new_folder(pathlib.Path(out), name, config)
        files.write_json(path / stored.CONFIG, values)
        files.write_json(path / "provenance.json", {"sessions": [made_with()]})
        return _train(
            program,
            program.place(program.fresh(folder.lanes_of(config))),
            config,
            path,
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
    if config is not None:
        config = resolved(config)
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
    config = run.config if config is None else config
    with folder.precision(config):
        program = folder.program_of(config)
        if (run.path / folder.CHECKPOINT).exists():
            state = folder.restore(program, folder.lanes_of(config), run.path)
        else:
            state = program.place(program.fresh(folder.lanes_of(config)))
        step = int(np.asarray(state.step)[0])
        rows: Any = run.metrics[run.metrics["step"] <= step].to_dict("records")
        history = files.read_json(run.path / "provenance.json")
        history["sessions"].append(made_with() | {"from_step": step})
        files.write_json(run.path / "provenance.json", history)
        return _train(program, state, config, run.path, rows, track, on_report)


def resolved(config: Config) -> Settings:
    """The settings of a run of this configuration. Makes its environment once; raises `InputError`
    where that can't be made, and for settings that don't go together."""
    with folder.precision(config):
        made = envs.make(
            config.env, lanes=1, arguments=config.env_arguments, distractors=config.distractors,
            distractor_kind=config.distractor_kind,
            dtype=jnp.dtype(config.precision),
        )  # fmt: skip
        try:
            return resolve(config, made.spec)
        finally:
            made.close()


def _train(
    program: Program,
    state: LaneState,
    config: Settings,
    path: pathlib.Path,
    rows: session.Rows,
    track: str | None,
    on_report: Callable[[Report], None] | None,
) -> Run:
    tracker = open_tracker(track, path)

    def report(news: Report) -> None:
        for row in news.rows if tracker else ():
            tracker.log(row)  # type: ignore[union-attr]
        if on_report:
            on_report(news)

    labels = [{"lane": lane, "seed": seed} for lane, seed in enumerate(config.seed_list)]
    _, rows = session.train(program, state, config, labels, path, rows, report)
    if tracker:
        tracker.close()
    return Run(path, config, pd.DataFrame(rows))
