"""Ctrl-C and SIGTERM as a wish that the loop looks at between chunks."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any


class Stop:
    """While entered, the first SIGINT or SIGTERM sets `requested`, and says on standard error what
    is waited for. A second one ends the process at once, with exit code 128 + its number: the last
    checkpoint stays. Outside the main thread this does nothing.

    A thread of its own answers. Python calls handlers only between two instructions of the main
    thread, and a compiled chunk is one instruction.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)
    WORDS = (
        "omd: stopping after the chunk that is being computed, with a checkpoint. A second signal "
        "(Ctrl-C again) stops at once: what came after the last checkpoint is then lost"
    )

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def request(self) -> None:
        """Ask for the end, as the first signal does."""
        self.requested = True

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            reading, self._writing = os.pipe()
            os.set_blocking(self._writing, False)
            threading.Thread(target=self._listen, args=(reading,), daemon=True).start()
            self._wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
            self._previous = {s: signal.signal(s, self._request) for s in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        if not self._previous:
            return
        while self._previous:
            signal.signal(*self._previous.popitem())
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._writing)  # ends the thread

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True

    def _listen(self, reading: int) -> None:
        """Read the numbers of signals, which the system's handler writes without waiting."""
        seen = 0
        with os.fdopen(reading, "rb", buffering=0) as numbers:
            while number := numbers.read(1):
                if number[0] not in self.SIGNALS:
                    continue
                seen += 1
                if seen > 1:
                    os._exit(128 + number[0])
                self.requested = True
                print(self.WORDS, file=sys.stderr, flush=True)
