"""The engine for this machine: one worker process a device, a core or an accelerator."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import selectors
import signal
import subprocess
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import IO, Any

from omd.envs import host
from omd.errors import InputError
from omd.sweeps.outcome import Outcome
from omd.sweeps.plan import Machine
from omd.sweeps.screen import Screen
from omd.sweeps.store import Sweep

ATTEMPTS = 3
"""Times that a group may take its worker with it before it counts as failed."""
POLL_SECONDS = 1.0
END_SECONDS = 600.0
"""For a last checkpoint, before a worker is killed."""
COMMAND = [*host.PYTHON, "-m", "omd.sweeps.worker"]


class Worker:
    """A process that runs one group at a time."""

    def __init__(self, path: pathlib.Path, number: int, machine: Machine) -> None:
        variables = {"NPROC": "1"} if machine.platform == "cpu" else _one_device(number)
        self.log: IO[str] = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [*COMMAND, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **host.variables(), **variables},
            start_new_session=True,  # a Ctrl-C reaches the driver alone, which asks the workers
        )
        self.number, self.group = number, -1

    def ask(self, group: int) -> None:
        self.group = group
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # it died while idle: there will be no answer
            print(group, file=self.process.stdin, flush=True)

    def answer(self) -> Outcome | None:
        """What came of the group; None if the process died."""
        assert self.process.stdout
        text = self.process.stdout.readline()
        return Outcome(**json.loads(text)) if text.endswith("\n") else None

    def last_words(self) -> str:
        """How the process ended, with the last line it wrote."""
        code = self.process.wait()
        self.log.seek(0)
        lines = [text.strip() for text in self.log if text.strip()]
        lines = [text for text in lines if not text.startswith(("---", "For simplicity, JAX"))]
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"its worker died ({how})" + (f": {lines[-1]}" if lines else "")

    def dismiss(self) -> None:
        """Ask it to stop, with a checkpoint if it is at work: it notices that its input ends."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def end(self) -> None:
        """Dismiss it and wait until it is gone."""
        self.dismiss()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()
        self.log.close()


def _one_device(number: int) -> dict[str, str]:
    names = [n for n in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if n]
    return {"CUDA_VISIBLE_DEVICES": names[number] if names else str(number)}


def plan(wanted: dict[str, Any]) -> dict[str, Any]:
    """The plan of a sweep, made in a process of its own; raises `InputError` as that does."""
    done = subprocess.run(
        [*COMMAND, "--plan"],
        input=json.dumps(wanted) + "\n",
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, **host.variables()},
    )
    if done.returncode or not done.stdout:
        words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InputError(f"the sweep can't be planned, for its process ended: {words[-1]}")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise InputError(answer["error"])
    return answer


def run(sweep: Sweep, machine: Machine, stopped: Callable[[], bool], screen: Screen) -> None:
    """Finish all groups that no other process has; failures are noted in the sweep's folder.

    Groups that others hold are looked at again until they are finished, or free. Ends early once
    `stopped()`, or when the folder can't be written.
    """
    waiting = deque(g.number for g in sweep.groups if not sweep.done(g))
    deaths: Counter[int] = Counter()
    idle: list[Worker] = []
    busy: dict[int, float] = {}
    with selectors.DefaultSelector() as running:
        try:
            while not stopped():
                _hand_out(sweep, machine, waiting, busy, idle, running)
                if not running.get_map() and not waiting:
                    return
                for key, _ in running.select(POLL_SECONDS):
                    running.unregister(key.fileobj)
                    worker: Worker = key.data
                    group = sweep.groups[worker.group]
                    outcome = worker.answer()
                    if outcome is None:
                        deaths[worker.group] += 1
                        words = worker.last_words()
                        worker.end()
                        if deaths[worker.group] < ATTEMPTS:
                            screen.say(
                                f"group {worker.group}: {words}; another one goes on from its last "
                                "checkpoint"
                            )
                            waiting.appendleft(worker.group)
                        else:
                            sweep.fail(group, f"{words}, {ATTEMPTS} times in a row")
                        continue
                    idle.append(worker)
                    if outcome.settle(sweep, group):
                        busy[worker.group] = time.monotonic()
                        waiting.append(worker.group)
                screen.update()
        finally:
            workers = [*idle, *(key.data for key in running.get_map().values())]
            for worker in workers:
                worker.dismiss()
            for worker in workers:
                worker.end()


def _hand_out(
    sweep: Sweep,
    machine: Machine,
    waiting: deque[int],
    busy: dict[int, float],
    idle: list[Worker],
    running: selectors.BaseSelector,
) -> None:
    """Give waiting groups to workers, new ones while there are devices for them."""
    for _ in range(len(waiting)):
        index = waiting.popleft()
        if sweep.done(sweep.groups[index]):
            continue
        if time.monotonic() - busy.get(index, -1e9) < 2 * POLL_SECONDS:
            waiting.append(index)
            continue
        taken = {key.data.number for key in running.get_map().values()}
        free = set(range(machine.devices)) - taken
        if not free:
            waiting.appendleft(index)
            return
        worker = idle.pop() if idle else Worker(sweep.path, min(free), machine)
        worker.ask(index)
        running.register(worker.process.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]
