"""A process that steps some of the lanes: `main` with the number of a socket.

It is asked with pairs (name, arguments): first "build" with its settings, then a method of `Lanes`.
It answers with what that returns, or with the error that it raised.
"""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from omd.envs.host import records
from omd.envs.host.in_process import Lanes
from omd.envs.host.simulator import build
from omd.errors import InputError


class Served:
    """The lanes of this process."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import gymnasium

        sys.path[:] = settings["path"]
        spec = gymnasium.envs.registration.EnvSpec.from_json(settings["spec"])
        self._question, self._answer = settings["question"], settings["answer"]
        self._lanes = Lanes(
            lambda: build(settings["id"], spec), settings["id"], **settings["lanes"]
        )

    def answer(self, name: str, *arguments: Any) -> Any:
        """What the method returns."""
        return self.step(*arguments) if name == "step" else getattr(self._lanes, name)(*arguments)

    def step(self, data: bytes) -> bytes:
        """Of records, which are quicker than pickled arrays."""
        asked = records.unpack(np.frombuffer(data, self._question))
        return records.pack(self._answer, *self._lanes.step(*asked)).tobytes()


def serve(connection: Connection) -> None:
    """Answer until the other side closes."""
    served: Any = None
    while True:
        try:
            name, *arguments = connection.recv()
        except EOFError:
            return
        answer: Any = None
        try:
            if name == "build":
                served = Served(*arguments)
            else:
                answer = served.answer(name, *arguments)
        except InputError as error:
            answer = InputError(str(error))
        except Exception as error:
            named = type(error) is RuntimeError
            answer = RuntimeError(str(error) if named else f"{type(error).__name__}: {error}")
        connection.send(answer)


def main(descriptor: int) -> None:
    """Serve what is at the other end of a socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: its run decides
    serve(Connection(descriptor))
