"""Starts real runs, kills them with SIGKILL at random moments, goes on with --resume, and compares
what comes out with an undisturbed run, bit by bit.

    python tests/kills.py [KILLS]            50 by default; the exit code is 1 where one differs

The checkpoints are written after each chunk, so that many kills fall into a write.
"""

from __future__ import annotations

import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import pandas as pd

from omd.runs import files, folder

SMALL = {
    "steps": 600,
    "random-steps": 100,
    "evaluate-every": 100,
    "evaluate-episodes": 2,
    "hidden": 8,
    "model-hidden": 8,
    "batch-size": 16,
    "seeds": 2,
}
SETTINGS = [
    *(word for name, value in SMALL.items() for word in (f"--{name}", str(value))),
    "--quiet",
]
RUNS = {
    "CartPole-v1": ["CartPole-v1", *SETTINGS],
    "CartPole-v1 of Gymnasium": ["gymnasium:CartPole-v1", *SETTINGS],
    "Pendulum-v1 with SAC": ["Pendulum-v1", *SETTINGS, "--evaluate-max-steps", "50"],
}
SCRIPT = """
from omd import cli
from omd.runs import checkpoint
checkpoint.CHECKPOINT_SECONDS, checkpoint.CHECKPOINT_SHARE = 0.0, 1e9
cli.main()
"""


def start(words: list[str], out: pathlib.Path) -> subprocess.Popen:
    """A process that trains in `out`/run, or goes on with what is there."""
    path = out / "run"
    begun = (path / "provenance.json").exists()
    place = ["--resume", str(path), "--quiet"] if begun else [*words, "--out", str(out)]
    name = [] if begun else ["--name", "run"]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "train", *place, *name],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait(process: subprocess.Popen, out: pathlib.Path) -> None:
    """Until the first file of a save is there, or the process ends."""
    while process.poll() is None and not (out / "run" / folder.METRICS).exists():
        time.sleep(0.005)


def finish(words: list[str], out: pathlib.Path) -> float:
    """Train to the end, and give the seconds from the first save on; raises `RuntimeError` with
    what a failing process says."""
    process = start(words, out)
    wait(process, out)
    begin = time.monotonic()
    _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(said)
    return time.monotonic() - begin


def kill_once(words: list[str], out: pathlib.Path, seconds: float) -> bool:
    """Kill a run so long after its first save began; whether it was still at work."""
    process = start(words, out)
    wait(process, out)
    time.sleep(seconds)
    working = process.poll() is None
    os.killpg(process.pid, signal.SIGKILL) if working else None
    process.communicate()
    return working


def difference(one: pathlib.Path, other: pathlib.Path) -> str:
    """What differs between two finished runs; empty where nothing does."""
    a, b = (files.read_checkpoint(path / folder.CHECKPOINT) for path in (one, other))
    names = [n for n in a if n not in b or a[n].tobytes() != b[n].tobytes()]
    if names or a.keys() != b.keys():
        return f"checkpoints differ in {', '.join(names[:3]) or 'names'}"
    mine, theirs = (files.read_frame(path / folder.METRICS) for path in (one, other))
    try:
        pd.testing.assert_frame_equal(mine, theirs, check_exact=True)
    except AssertionError as error:
        return f"metrics differ: {' '.join(str(error).split())}"
    left = [p.name for p in one.glob(".*.tmp*")]
    return f"left behind: {left}" if left else ""


def main() -> int:
    kills, draw = int(sys.argv[1]) if sys.argv[1:] else 50, random.Random(0)
    bad = 0
    with tempfile.TemporaryDirectory() as base:
        whole: dict[str, float] = {}
        for number in range(kills):
            name = list(RUNS)[number % len(RUNS)]
            right = pathlib.Path(base) / name.replace(" ", "-")
            if name not in whole:
                whole[name] = finish(RUNS[name], right)
            out = pathlib.Path(base) / str(number)
            seconds = draw.uniform(0, 0.7 * whole[name])
            working = kill_once(RUNS[name], out, seconds)
            finish(RUNS[name], out)
            words = difference(out / "run", right / "run")
            bad += bool(words)
            state = "at work" if working else "finished"
            print(
                f"{number + 1:3}  {name}, killed after {seconds:.2f} s ({state}): "
                f"{words or 'the same bits'}",
                flush=True,
            )
    print(f"{kills - bad} of {kills} end as the undisturbed run")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
