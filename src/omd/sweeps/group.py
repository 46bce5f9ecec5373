"""One group of a sweep, from where its last checkpoint left it to its end."""

from __future__ import annotations

import functools
import math
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from omd.agents import squared_error
from omd.callbacks import Callback, Record
from omd.runs import files, folder, session
from omd.runs.provenance import made_with
from omd.settings import Settings
from omd.sweeps import plan
from omd.sweeps.outcome import BUSY, FINISHED, STOPPED, Outcome
from omd.sweeps.store import DONE, ERROR, PROGRESS, Sweep
from omd.training import replay
from omd.training.chunk import LaneState
from omd.training.program import Program
from omd.types import PyTree

AGENTS, INITIAL = "agents.safetensors", "initial.safetensors"
PROGRESS_SECONDS = 2.0
SAMPLE = 20_000
"""Transitions at most, evenly spaced in the replay buffer, on which a random model is scored."""


def run(sweep: Sweep, index: int) -> Outcome:
    """Finish the group, unless another process has it (`BUSY`) or a signal asks to stop."""
    group = sweep.groups[index]
    with sweep.claim(group) as mine:
        if sweep.done(group):
            return FINISHED
        return _train(sweep, group) if mine else BUSY


def _train(sweep: Sweep, group: plan.Group) -> Outcome:
    lanes, path = sweep.configs(group), sweep.folder(group)
    (path / ERROR).unlink(missing_ok=True)
    config = plan.representative(lanes, group.padded)
    begin = time.monotonic()
    with folder.precision(config):
        program = program_of(config, len(lanes))
        rows: session.Rows = []
        files.remove_leftovers(path)
        frame = folder.history(path)
        if folder.begun(path, frame):
            state = folder.restored(program, lanes, folder.last_good(path, mend=True), path)
            reached = int(np.asarray(state.step)[0])
            rows = frame[frame["step"] <= reached].to_dict("records")  # type: ignore[assignment]
        else:
            state, reached = program.place(program.fresh(lanes)), 0
            files.save_checkpoint(path / INITIAL, _first(state.agent.theta, len(lanes)), {})
        _note_session(path, reached)
        labels = [
            {"lane": number, "seed": sweep.lanes[number].seed_list[0]} for number in group.lanes
        ]
        try:
            state, rows = session.train(program, state, config, labels, path, rows, [_Step()])
            if int(np.asarray(state.step)[0]) < config.steps:
                return STOPPED
            _finish(program, state, lanes, path, time.monotonic() - begin)
        finally:
            if program.env.on_host:
                program.env.close()
                program.evaluation_env.close()
    return FINISHED


class _Step(Callback):
    """Writes how far the group is, for the sweep's display."""

    def begin(self, settings: Settings, path: pathlib.Path | None) -> None:
        assert path is not None
        self._path, self._written = path / PROGRESS, 0.0

    def after_chunk(self, record: Record) -> None:
        if time.monotonic() - self._written > PROGRESS_SECONDS:
            self._written = time.monotonic()
            values = {"step": record.evaluation.step, "time": time.time()}
            files.write_json(self._path, values)


def _finish(
    program: Program, state: LaneState, lanes: list[Settings], path: pathlib.Path, seconds: float
) -> None:
    """Keep the agents, drop the replay buffers, and say that the group is done, in this order."""
    files.save_checkpoint(path / AGENTS, _first(state.agent, len(lanes)), {})
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((len(lanes), *x.shape[1:]), x.dtype), state.agent.theta
    )
    initial = files.state_of(files.read_checkpoint(path / INITIAL), shapes)
    errors, live = _first_models(program, state, initial)
    record = {"seconds": seconds, "random_model_mse": errors, "live_units": live}
    files.write_json(path / DONE, record)
    for name in (folder.CHECKPOINT, folder.PREVIOUS, INITIAL, PROGRESS):
        (path / name).unlink(missing_ok=True)


def _first_models(
    program: Program, state: LaneState, theta: PyTree
) -> tuple[list[float], dict[str, list[int]]]:
    """Of each lane's first model on the transitions that the lane has seen: its squared error, and
    the units of each hidden layer that are above zero for at least one of them. NaN and no layers
    where the objective trains no model."""
    if not program.agent.objective.uses_model:
        return [math.nan] * program.lanes, {}
    held = min(int(np.asarray(state.step)[0]), program.config.capacity)
    index = np.linspace(0, held - 1, min(held, SAMPLE)).astype(np.uint32)

    @jax.jit
    def score(theta, buffer):
        batch = replay.sample(buffer, jnp.asarray(index), program.env.spec)
        model = program.agent.model
        prediction = model.predict(theta, batch, jax.random.key(0))
        return squared_error(prediction, batch), model.live_units(theta, batch)

    def lane(number: int) -> PyTree:
        return jax.tree.map(lambda x: x[number], (theta, state.replay))

    found = [score(*lane(number)) for number in range(program.lanes)]
    live = {name: [int(one[name]) for _, one in found] for name in found[0][1]}
    return [float(error) for error, _ in found], live


def _first(tree: PyTree, lanes: int) -> PyTree:
    """Without the lanes that only fill up devices."""
    return jax.tree.map(lambda x: x[:lanes], tree)


def program_of(config: Settings, lanes: int) -> Program:
    """The program of so many lanes; the last ones are kept, for groups of one shape share one.

    A host environment has a state of its own, hence a program for each group.
    """
    program = _cached(config, lanes)
    if program.env.on_host:
        _cached.cache_clear()
    return program


_cached = functools.lru_cache(maxsize=2)(folder.program_of)


def _note_session(path: pathlib.Path, step: int) -> None:
    record = path / "provenance.json"
    history = files.read_json(record, sessions=list) if record.exists() else {"sessions": []}
    history["sessions"].append(made_with() | {"from_step": step})
    files.write_json(record, history)
