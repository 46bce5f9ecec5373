"""Lanes stepped on all cores, by worker processes."""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import DTypeLike
from safetensors.numpy import load, save

from omd.envs.host import server
from omd.envs.host.in_process import Rows
from omd.envs.host.simulator import Divergence
from omd.errors import InputError

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
        self._id, self._dtype, self._size = id, np.dtype(dtype), size
        self._action_dtype = np.dtype(action_dtype)
        self._settings = {
            "spec": spec,
            "id": id,
            "size": size,
            "dtype": self._dtype.name,
            "action_shape": action_shape,
            "action_dtype": self._action_dtype.name,
        }
        self._edges = np.linspace(0, count, min(workers, count) + 1).astype(int)
        self._lock = threading.Lock()
        self.failure: RuntimeError | None = None

    def reset(self, seeds: Int[np.ndarray, " L"]) -> Float[np.ndarray, "L obs"]:
        """Begin an episode in each lane."""
        parts = np.split(seeds.astype(np.int32), self._edges[1:-1])
        answers = self._ask([server.RESET + part.tobytes() for part in parts])
        return np.frombuffer(b"".join(answers), self._dtype).reshape(-1, self._size)

    def step(self, whole: Int[np.ndarray, "3 n"], actions: np.ndarray) -> Rows:
        """Advance n of the lanes; `whole` holds their indices, clocks and next episodes' seeds."""
        owner = np.searchsorted(self._edges, whole[0], side="right") - 1
        actions = np.asarray(actions, self._action_dtype)
        messages: list[bytes | None] = []
        chosen = [np.flatnonzero(owner == index) for index in range(len(self._edges) - 1)]
        for start, mine in zip(self._edges, chosen, strict=False):
            part = whole[:, mine].astype(np.int32)
            part[0] -= start
            message = server.STEP + part.tobytes() + actions[mine].tobytes()
            messages.append(message if len(mine) else None)
        answers = self._ask(messages)
        parts = [self._rows(a, len(m)) for a, m in zip(answers, chosen, strict=True) if len(m)]
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        order = np.argsort(np.concatenate(chosen))
        return tuple(column[order] for column in columns)

    def _rows(self, data: bytes, count: int) -> Rows:
        rows, offset = [], 0
        for dtype, shape in (
            (np.dtype(np.int32), (count,)),
            (self._dtype, (count, self._size)),
            (self._dtype, (count, self._size)),
            (self._dtype, (count,)),
            (np.dtype(bool), (count,)),
            (np.dtype(bool), (count,)),
        ):
            size = int(np.prod(shape))
            rows.append(np.frombuffer(data, dtype, size, offset).reshape(shape))
            offset += size * dtype.itemsize
        return tuple(rows)

    def divergences(self) -> dict[int, Divergence]:
        """By index, the lanes that have diverged since they were reset."""
        if "_connections" not in self.__dict__:
            return {}
        answers = self._ask([server.DIVERGENCES] * (len(self._edges) - 1))
        return {
            int(start) + int(index): Divergence(**fields)
            for start, answer in zip(self._edges, answers, strict=False)
            for index, fields in json.loads(answer).items()
        }

    def snapshot(self) -> dict[str, np.ndarray]:
        """As that of `Lanes`."""
        parts = [load(a) for a in self._ask([server.SNAPSHOT] * (len(self._edges) - 1))]
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
            part = {name: np.ascontiguousarray(array) for name, array in part.items()}
            messages.append(server.RESTORE + save(part))
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

    def _ask(self, messages: list[bytes | None]) -> list[bytes]:
        """One message to each worker, None to leave it alone; their answers, b"" for those."""
        with self._lock:
            pairs = list(zip(self._connections, messages, strict=True))
            try:
                for connection, message in pairs:
                    if message is not None:
                        connection.send_bytes(message)
                answers = [b"" if m is None else connection.recv_bytes() for connection, m in pairs]
            except (EOFError, OSError) as error:
                self.failure = RuntimeError(
                    f"environment {self._id!r}: a worker process has ended by itself"
                )
                raise self.failure from error
        for answer in answers:
            if answer[:1] == server.BAD_INPUT:
                raise InputError(answer[1:].decode())
            if answer[:1] == server.FAILED:
                self.failure = RuntimeError(answer[1:].decode())
                raise self.failure
        return [answer[1:] for answer in answers]

    @functools.cached_property
    def _connections(self) -> list[Connection]:
        connections, processes = [], []
        for begin, end in zip(self._edges[:-1], self._edges[1:], strict=True):
            ours, theirs = socket.socketpair()
            program = f"from omd.envs.host import server; server.main({theirs.fileno()})"
            command = [sys.executable, "-c", program]
            process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            theirs.close()
            connection = Connection(ours.detach())
            settings = {"first": int(begin), "count": int(end - begin), "path": sys.path}
            connection.send_bytes(server.BUILD + json.dumps(self._settings | settings).encode())
            connections.append(connection)
            processes.append(process)
        self._processes = processes
        self._stop = weakref.finalize(self, _end, connections, processes)
        answers = [connection.recv_bytes() for connection in connections]
        for answer in answers:
            if answer[:1] != server.DONE:
                raise RuntimeError(answer[1:].decode())
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
