"""A process that runs groups of a sweep, told which by lines on its standard input.

    python -m omd.sweeps.worker FOLDER       each line a group's number; answers a JSON line
    python -m omd.sweeps.worker --plan       one JSON line in, the plan as one out

A process of its own, because the settings of JAX's devices can't be changed later, because it may
die, and because planning must not take an accelerator's memory from the workers.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import signal
import sys
import threading
from typing import Any, TextIO

from omd.errors import InputError, out_of_memory
from omd.sweeps.outcome import Outcome


def main() -> None:
    # answers go where stdout was; whatever libraries print goes to stderr
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if sys.argv[1:] == ["--plan"]:
        _tell(answers, _plan(json.loads(sys.stdin.readline())))
    else:
        _serve(sys.argv[1], answers)


def _tell(answers: TextIO, values: dict[str, Any]) -> None:
    print(json.dumps(values), file=answers, flush=True)


def _plan(wanted: dict[str, Any]) -> dict[str, Any]:
    _take_one_device()
    from omd.runs.provenance import made_with
    from omd.sweeps import cost, group, plan, spec

    try:
        lanes = spec.from_json(wanted)
        on = plan.machine(wanted["workers"])
        groups = plan.groups(lanes, on, wanted["group_size"])
        points = []
        if wanted["timed"]:  # the cheapest and the dearest shape
            ends = sorted(groups, key=lambda g: g.flops)
            for one in {ends[0].flops: ends[0], ends[-1].flops: ends[-1]}.values():
                config = plan.representative([lanes[one.lanes[0]]], one.padded)
                seconds = cost.seconds_per_lane_step(config, len(one.lanes), group.program_of)
                points.append((one.flops, seconds))
    except InputError as error:
        return {"error": str(error)}
    return {
        "machine": on._asdict(),
        "groups": [one._asdict() for one in groups],
        "seconds": [cost.line(points, one.flops) for one in groups] if points else None,
        "provenance": made_with(),
    }


def _serve(path: str, answers: TextIO) -> None:
    wanted: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(wanted,), daemon=True).start()
    while (index := wanted.get()) is not None:
        _tell(answers, dataclasses.asdict(run(path, index)))


def _listen(wanted: queue.SimpleQueue[int | None]) -> None:
    """Read group numbers; when the driver is gone, stop as a signal would, with a checkpoint."""
    for text in sys.stdin:
        wanted.put(int(text))
    wanted.put(None)
    os.kill(os.getpid(), signal.SIGTERM)


def _take_one_device() -> None:
    """Start JAX on one core, or on the accelerator that this process sees, for good: the numbers
    of a group must not depend on how many cores its machine has."""
    import jax

    from omd.training import devices

    devices.prepare(1)
    jax.devices()


def run(path: str, index: int) -> Outcome:
    """Run one group and say what came of it."""
    _take_one_device()
    from omd.runs import files
    from omd.sweeps import group
    from omd.sweeps.store import Sweep

    try:
        return group.run(Sweep(path), index)
    except files.WriteError as error:
        return Outcome("unwritable", str(error))
    except InputError as error:
        return Outcome("failed", str(error))
    except OSError as error:
        return Outcome("unwritable", f"{error.strerror or error}: free space or mend the folder")
    except Exception as error:
        if out_of_memory(error):
            sentence = "out of memory: give a smaller --group-size or fewer --workers"
            return Outcome("failed", sentence)
        raise


if __name__ == "__main__":
    main()
