"""Lanes stepped on all cores, by worker processes."""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import DTypeLike

from omd.envs.host import records
from omd.envs.host.records import Rows
from omd.envs.host.simulator import Divergence
from omd.errors import InputError

PYTHON = [sys.executable, "-P"]
"""A Python that doesn't put the working folder before everything else: a `random.py` there would
stand for the library's."""


def variables() -> dict[str, str]:
    """Lets such a Python import what this one does, the working folder's modules included; a
    PYTHONPATH that was set meanwhile stays in front."""
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    paths = dict.fromkeys([*given, *(path or os.getcwd() for path in sys.path)])
    return {"PYTHONPATH": os.pathsep.join(paths)}


EXCHANGE_SECONDS = 1e-3
"""What a step must save to be worth a message to each worker and back, which wakes processes up."""


class Crew:
    """Offers what `Lanes` does, with the lanes divided among processes that start at first use.

    Threads would not do: Python's part of a step holds the interpreter's lock, and handing that
    over costs more than MuJoCo's part gains (`benchmarks/host_envs.py`).
    """

    def __init__(
        self,
        spec: str,
        id: str,
        *,
        count: int,
        size: int,
        dtype: DTypeLike,
        action_shape: tuple[int, ...],
        action_dtype: DTypeLike,
        workers: int,
    ) -> None:
        """`spec` is Gymnasium's, as JSON; actions of a lane have the given shape and type."""
        self._id = id
        self._question = records.question(action_shape, action_dtype)
        self._answer = records.answer(size, dtype)
        self._lanes = {"size": size, "dtype": np.dtype(dtype)}
        self._settings = {
            "spec": spec,
            "id": id,
            "question": self._question,
            "answer": self._answer,
        }
        self._edges = np.linspace(0, count, min(workers, count) + 1).astype(int)
        self._lock = threading.Lock()
        self.failure: RuntimeError | None = None

    def reset(self, seeds: Int[np.ndarray, " L"]) -> Float[np.ndarray, "L obs"]:
        """Begin an episode in each lane."""
        parts = np.split(np.asarray(seeds), self._edges[1:-1])
        return np.concatenate(self._ask([("reset", part) for part in parts]))

    def step(
        self,
        lane: Int[np.ndarray, " n"],
        clock: Int[np.ndarray, " n"],
        seed: Int[np.ndarray, " n"],
        action: np.ndarray,
    ) -> Rows:
        """As that of `Lanes`."""
        asked = records.pack(self._question, lane, clock, seed, action)
        owner = np.searchsorted(self._edges, lane, side="right") - 1
        asked["lane"] -= self._edges[owner]
        parts = [asked[owner == worker] for worker in range(len(self._edges) - 1)]
        answers = self._ask([("step", part.tobytes()) if len(part) else None for part in parts])
        rows = np.empty(len(lane), self._answer)
        rows[np.argsort(owner, kind="stable")] = np.frombuffer(
            b"".join(one for one in answers if one), self._answer
        )
        return Rows(*records.unpack(rows))

    def divergences(self) -> dict[int, Divergence]:
        """By index, the lanes that have diverged since they were reset."""
        if "_connections" not in self.__dict__:
            return {}
        return {
            int(start) + index: divergence
            for start, found in zip(self._edges, self._ask_all("divergences"), strict=False)
            for index, divergence in found.items()
        }

    def snapshot(self) -> dict[str, np.ndarray]:
        """As that of `Lanes`."""
        parts = self._ask_all("snapshot")
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """As that of `Lanes`."""
        count = self._edges[-1]
        for name, array in snapshot.items():
            if name != "actions" and len(array) != count:
                raise InputError(
                    f"the snapshot holds an array of shape {array.shape} as {name!r} "
                    f"of environment {self._id!r} with {count} lanes: resume with the environment "
                    "that wrote it"
                )
        starts = np.concatenate([[0], np.cumsum(snapshot.get("length", []))]).astype(int)
        messages = []
        for begin, end in zip(self._edges[:-1], self._edges[1:], strict=True):
            part = {k: v[begin:end] for k, v in snapshot.items() if k != "actions"}
            if "actions" in snapshot and "length" in snapshot:
                part["actions"] = snapshot["actions"][starts[begin] : starts[end]]
            messages.append(("restore", part))
        self._ask(messages)

    def render(self) -> list[Any]:
        """Raises `InputError`: what a worker draws stays there."""
        raise InputError(
            f"environment {self._id!r} runs in workers: make it with workers=0 to draw"
        )

    def close(self) -> None:
        """End the processes."""
        if "_connections" in self.__dict__:
            self._stop()
            del self.__dict__["_connections"]

    def _ask_all(self, name: str) -> list[Any]:
        return self._ask([(name,)] * (len(self._edges) - 1))

    def _ask(self, messages: Sequence[tuple | None]) -> list[Any]:
        """One message to each worker, None to leave it alone; their answers, None for those."""
        with self._lock:
            pairs = list(zip(self._connections, messages, strict=True))
            try:
                for connection, message in pairs:
                    if message is not None:
                        connection.send(message)
                answers = [None if m is None else connection.recv() for connection, m in pairs]
            except (EOFError, OSError) as error:
                self.failure = RuntimeError(
                    f"environment {self._id!r}: a worker process has ended by itself"
                )
                raise self.failure from error
        for answer in answers:
            if isinstance(answer, RuntimeError):
                self.failure = answer
            if isinstance(answer, Exception):
                raise answer
        return answers

    @functools.cached_property
    def _connections(self) -> list[Connection]:
        connections, processes = [], []
        for begin, end in zip(self._edges[:-1], self._edges[1:], strict=True):
            ours, theirs = socket.socketpair()
            program = f"from omd.envs.host import server; server.main({theirs.fileno()})"
            process = subprocess.Popen(
                [*PYTHON, "-c", program],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **variables()},
            )
            theirs.close()
            connection = Connection(ours.detach())
            lanes = self._lanes | {"first": int(begin), "count": int(end - begin)}
            connection.send(("build", self._settings | {"lanes": lanes, "path": sys.path}))
            connections.append(connection)
            processes.append(process)
        self._processes = processes
        self._stop = weakref.finalize(self, _end, connections, processes)
        for error in [connection.recv() for connection in connections]:
            if error is not None:
                self.failure = RuntimeError(str(error))
                raise self.failure
        return connections


def _end(connections: list[Connection], processes: list[subprocess.Popen]) -> None:
    for connection in connections:
        connection.close()
    for process in processes:
        process.wait()


def workers_for(env: Any, lanes: int, workers: int | None) -> tuple[int, str]:
    """How many processes `lanes` copies of `env` are worth, 0 for none, and its spec as JSON.

    Left to itself, only Gymnasium's own environments are tried out here for what a step costs, and
    only those that a worker can build from a spec alone go there. `env` is spent afterwards.
    """
    if env.spec is None:
        if workers:
            raise InputError(
                f"an environment without an id can't run in {workers} workers: register "
                "it with the text 'module:Class', or leave workers out"
            )
        return 0, ""
    try:
        spec = env.spec.to_json()
    except ValueError as error:
        if workers:
            raise InputError(
                f"environment {env.spec.id!r} can't run in {workers} workers, for it was "
                "registered with a class: register it with the text 'module:Class'"
            ) from error
        return 0, ""
    if workers is not None:
        return min(workers, lanes), spec
    own = type(env.unwrapped).__module__.startswith("gymnasium.envs.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    count = min(cores or 1, lanes)
    if count < 2 or not own:
        return 0, spec
    saved = lanes * _step_seconds(env) * (1 - 1 / count)
    return count if saved > EXCHANGE_SECONDS else 0, spec


def _step_seconds(env: Any) -> float:
    """The quickest of some steps."""
    env.reset(seed=0)
    env.action_space.seed(0)
    fastest = float("inf")
    for _ in range(20):
        action = env.action_space.sample()
        begin = time.perf_counter()
        _, _, terminated, truncated, _ = env.step(action)
        fastest = min(fastest, time.perf_counter() - begin)
        if terminated or truncated:
            env.reset(seed=0)
    return fastest
