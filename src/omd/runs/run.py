"""A run and its folder: configuration, metrics, checkpoint, provenance; training and resuming."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from omd import callbacks, memory, parts
from omd.config import Config
from omd.errors import InputError
from omd.runs import files, folder, session, stored
from omd.runs.learned_model import LearnedModel, checked_observation
from omd.runs.provenance import made_with
from omd.settings import Settings, resolve
from omd.training.chunk import LaneState
from omd.training.program import Program

PROVENANCE = "provenance.json"
LAST = 10
"""Evaluations over which the final return of a lane is averaged."""


class Run:
    """A run: `config`, `metrics`, and the trained lanes, which can `act`, and whose `model` can
    predict. `path` is its folder, None where nothing was to be written."""

    def __init__(
        self,
        path: pathlib.Path | None,
        config: Settings,
        metrics: pd.DataFrame,
        trained: tuple[Program, LaneState] | None = None,
    ) -> None:
        """`trained` is what a run without a folder ended with."""
        self.path, self.config, self.metrics = path, config, metrics
        self._trained = trained

    @property
    def folder(self) -> pathlib.Path:
        """`path`; raises `InputError` for a run that wrote nothing."""
        if self.path is None:
            raise InputError("this run has no folder, for it was trained with out=None")
        return self.path

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
        if self.path is None:
            return {
                self.config.seed_list[i]: f"in training, {divergence}"
                for i, divergence in self.program.env.divergences().items()
            }
        return dict(folder.read_divergences(self.path).values())

    def act(self, observation: Any, *, seed: int | None = None) -> np.ndarray:
        """The trained policy's most probable actions, NumPy in and out: int32, or floats in the
        environment's range with a last axis for an action's components.

        `observation` is [obs] or [batch, obs]; `seed` picks a lane, the first by default. Raises
        `InputError` for an observation of another size or an unknown seed.
        """
        observation = checked_observation(observation, self.program.env.spec)
        lane = self.lane(seed)
        with folder.precision(self.config):
            learner = jax.tree.map(lambda x: x[lane], self.state.agent.learner)
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
        episodes, seed = parts.count("episodes", episodes), parts.count("seed", seed, 0)
        config = dataclasses.replace(self.config, evaluate_episodes=episodes)
        memory.check(config)
        with folder.precision(config):
            program = folder.program_of(config)
            state = self.state
            if not self._trained:
                state = folder.restore(program, folder.lanes_of(config), self.folder)
            key = jax.vmap(lambda k: jax.random.fold_in(k, 2**31 + seed))(state.key)
            with program.host_errors():
                metrics = program.evaluate(state._replace(key=key))
                columns = {k: np.asarray(v)[: program.lanes] for k, v in metrics.items()}
        return pd.DataFrame({"seed": config.seed_list, **columns})

    @functools.cached_property
    def model(self) -> LearnedModel:
        """The trained model, which predicts, rolls out, and can be an environment. Raises
        `InputError` where the objective trains none."""
        return LearnedModel(self)

    def lane(self, seed: int | None) -> int:
        """The place of a seed among the lanes, that of the first for None; `InputError` for none
        of them."""
        seeds = self.config.seed_list
        if seed is not None and seed not in seeds:
            raise InputError(f"seed {seed} is none of this run's: {', '.join(map(str, seeds))}")
        return 0 if seed is None else seeds.index(seed)

    @functools.cached_property
    def program(self) -> Program:
        """The compiled functions of the lanes."""
        if self._trained:
            return self._trained[0]
        with folder.precision(self.config):
            return folder.program_of(self.config)

    @functools.cached_property
    def state(self) -> LaneState:
        """Everything that the lanes are; leaves carry the lane axis."""
        if self._trained:
            return self._trained[1]
        with folder.precision(self.config):
            return folder.restore(self.program, folder.lanes_of(self.config), self.folder)

    @functools.cached_property
    def _greedy(self):
        return jax.jit(self.program.agent.learner.greedy)


def load(path: str | os.PathLike) -> Run:
    """A run from its folder; raises `InputError` if it is none."""
    path = parts.path("run", path)
    config = stored.read_settings(path)
    return Run(path, config, folder.history(path))


def start(
    config: Config,
    *,
    out: str | os.PathLike | None = "runs",
    name: str | None = None,
    listeners: Sequence[callbacks.Callback] = (),
) -> Run:
    """Train a new run in `out`/`name`, or without a folder where `out` is None. Raises `InputError`
    before anything is written."""
    if out is None and name is not None:
        raise InputError(f"name is {name!r}, but out is None, so nothing is written: leave it out")
    memory.check(config)
    place = None if out is None else parts.path("out", out)
    if place is not None:
        files.check_writable(place)
    with folder.precision(config), contextlib.ExitStack() as stack:
        program = folder.program_of(config)
        config = program.config
        values = stored.to_json(config) if place is not None else {}
        folder.check_memory(program)
        state = program.place(program.fresh(folder.lanes_of(config)))
        path = None
        if place is not None:
            path = folder.new_folder(place, name, config)
            try:
                files.write_json(path / stored.CONFIG, values)
                files.write_json(path / PROVENANCE, {"sessions": [made_with()]})
            except files.WriteError:
                shutil.rmtree(path, ignore_errors=True)
                raise
            stack.enter_context(folder.claimed(path))
        return _train(program, state, config, path, [], listeners)


def resume(
    path: str | os.PathLike,
    config: Config | None = None,
    *,
    listeners: Sequence[callbacks.Callback] = (),
) -> Run:
    """Go on with a run where its last checkpoint left it; `config`, if given, must be its own."""
    path = parts.path("resume", path)
    run = load(path)
    if config is not None:
        config = resolved(config)
    if config is not None and config.to_dict() != run.config.to_dict():
        mine, theirs = config.to_dict(), run.config.to_dict()
        other = [
            f"{k} is {theirs[k]!r} there, not {mine[k]!r}" for k in mine if mine[k] != theirs[k]
        ]
        raise InputError(
            f"{path} was written with other settings: {'; '.join(other)}; resume without them"
        )
    if run.finished:
        return run
    config = run.config if config is None else config
    with folder.precision(config), folder.claimed(path):
        run = load(path)  # another process may have trained it until now
        if run.finished:
            return run
        record = files.read_json(path / PROVENANCE, sessions=list)
        folder.read_divergences(path)  # damaged, it would spoil the end of the run
        begun = folder.begun(path, run.metrics)
        arrays = folder.last_good(path, mend=True) if begun else {}
        step = folder.step_of(arrays)
        rows: Any = run.metrics[run.metrics["step"] <= step].to_dict("records") if begun else []
        program, lanes = folder.program_of(config), folder.lanes_of(config)
        folder.check_memory(program)
        fresh = functools.partial(program.fresh, lanes)
        state = folder.restored(program, lanes, arrays, path) if begun else program.place(fresh())
        record["sessions"].append(made_with() | {"from_step": step})
        files.write_json(path / PROVENANCE, record)
        return _train(program, state, config, path, rows, listeners)


def resolved(config: Config) -> Settings:
    """The settings of a run of this configuration. Makes its environment once; raises `InputError`
    where that can't be made, and for settings that don't go together."""
    with folder.precision(config):
        made = folder.make_env(config, lanes=1)
        try:
            return resolve(config, made.spec)
        finally:
            made.close()


def _train(
    program: Program,
    state: LaneState,
    config: Settings,
    path: pathlib.Path | None,
    rows: session.Rows,
    listeners: Sequence[callbacks.Callback],
) -> Run:
    labels = [{"lane": lane, "seed": seed} for lane, seed in enumerate(config.seed_list)]
    state, rows = session.train(program, state, config, labels, path, rows, listeners)
    return Run(path, config, pd.DataFrame(rows), None if path else (program, state))
