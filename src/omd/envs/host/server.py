"""A process that steps some of the lanes: `main` with the number of a socket."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from omd.envs.host.in_process import Lanes
from omd.envs.host.simulator import build
from omd.errors import InputError

BUILD, RESET, STEP, SNAPSHOT, RESTORE, DIVERGENCES = (bytes([code]) for code in b"BRSNTD")
DONE, BAD_INPUT, FAILED = (bytes([code]) for code in b".?!")


class Served:
    """The lanes of this process, called with messages: one byte that says what, then its data."""

    def __init__(self, message: bytes) -> None:
        import gymnasium

        settings = json.loads(message[1:])
        sys.path[:] = settings["path"]
        spec = gymnasium.envs.registration.EnvSpec.from_json(settings["spec"])
        self._size, self._dtype = settings["size"], np.dtype(settings["dtype"])
        self._action_shape = tuple(settings["action_shape"])
        self._action_dtype = np.dtype(settings["action_dtype"])
        self._lanes = Lanes(
            lambda: build(settings["id"], spec),
            settings["id"],
            first=settings["first"],
            count=settings["count"],
            size=self._size,
            dtype=self._dtype,
        )

    def answer(self, message: bytes) -> bytes:
        """What the message asks for."""
        what, data = message[:1], message[1:]
        if what == STEP:
            return self._step(data)
        if what == RESET:
            return self._lanes.reset(np.frombuffer(data, np.int32)).tobytes()
        if what == SNAPSHOT:
            return save(self._lanes.snapshot())
        if what == RESTORE:
            self._lanes.restore(load(data))
            return b""
        assert what == DIVERGENCES
        found = self._lanes.divergences()
        return json.dumps({i: dataclasses.asdict(d) for i, d in found.items()}).encode()

    def _step(self, data: bytes) -> bytes:
        per_lane = 3 * 4 + int(np.prod(self._action_shape)) * self._action_dtype.itemsize
        count = len(data) // per_lane
        whole = np.frombuffer(data, np.int32, 3 * count).reshape(3, count)
        actions = np.frombuffer(data, self._action_dtype, offset=whole.nbytes)
        rows = self._lanes.step(whole, actions.reshape(count, *self._action_shape))
        return b"".join(row.tobytes() for row in rows)


def serve(connection: Connection) -> None:
    """Answer until the other side closes."""
    served: Any = None
    while True:
        try:
            message = connection.recv_bytes()
        except EOFError:
            return
        try:
            if message[:1] == BUILD:
                served = Served(message)
                connection.send_bytes(DONE)
            else:
                connection.send_bytes(DONE + served.answer(message))
        except InputError as error:
            connection.send_bytes(BAD_INPUT + str(error).encode())
        except Exception as error:
            named = (
                str(error) if type(error) is RuntimeError else f"{type(error).__name__}: {error}"
            )
            connection.send_bytes(FAILED + named.encode())


def main(descriptor: int) -> None:
    """Serve what is at the other end of a socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: its run decides
    serve(Connection(descriptor))
