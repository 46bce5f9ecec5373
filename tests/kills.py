"""Starts real runs, sweeps and figures, kills them with SIGKILL, goes on, and compares what comes
out with an undisturbed one, bit by bit.

    python tests/kills.py [KILLS]            50 by default; the exit code is 1 where one differs

Half of the kills come at a random moment after the first file, half inside a write: before or
after a random one of the calls that make a file last and give it its name. Checkpoints are written
after each chunk. A job is killed up to three times before it may end.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import pandas as pd

from omd.runs import files, folder

SCRIPT = """
import os, signal, sys
from omd import cli
from omd.runs import checkpoint
from omd.sweeps import worker
from omd.sweeps.engines import local
checkpoint.CHECKPOINT_SECONDS, checkpoint.CHECKPOINT_SHARE = 0.0, 1e9
serves = "KILL_SERVES" in os.environ
local.COMMAND = [sys.executable, "-c", os.environ["KILL_SCRIPT"]]
left = int(os.environ.get("KILL_AT", 0))
mark = os.environ.get("KILL_MARK", "")

def die():
    if not os.path.exists(mark):  # one process of a job, once
        open(mark, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)

def deadly(call):
    def counted(*words, **options):
        global left
        left -= 1
        if left == 0 and os.environ["KILL_WHEN"] == "before":
            die()
        answer = call(*words, **options)
        if left == 0:
            die()
        return answer
    return counted

if left and serves == ("KILL_WORKER" in os.environ):
    os.fsync, os.replace = deadly(os.fsync), deadly(os.replace)
os.environ["KILL_SERVES"] = "1"  # to the processes of a sweep
worker.main() if serves else cli.main()
"""
SMALL = {
    "steps": 600,
    "random-steps": 100,
    "evaluate-every": 100,
    "evaluate-episodes": 2,
    "hidden": 8,
    "model-hidden": 8,
    "batch-size": 16,
}
SETTINGS = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]


@dataclasses.dataclass(frozen=True)
class Job:
    """Something that can be killed and gone on with."""

    name: str
    words: Callable[[pathlib.Path], list[str]]
    """The command that begins it in a folder, or goes on with what is there."""
    first: str
    """The file whose appearance says that it has begun to work."""
    difference: Callable[[pathlib.Path, pathlib.Path], str]
    """What differs between two finished ones; empty where nothing does."""
    writes: int
    """Of a process that isn't killed, about: calls that a kill may hit."""
    workers: bool = False
    """Whether processes that it starts write: a kill then hits one of them, and it goes on."""


def run_of(*settings: str) -> Callable[[pathlib.Path], list[str]]:
    def words(path: pathlib.Path) -> list[str]:
        if (path / "provenance.json").exists():
            return ["train", "--resume", str(path), "--quiet"]
        shutil.rmtree(path, ignore_errors=True)  # killed before there was anything to resume
        place = ["--out", str(path.parent), "--name", path.name, "--quiet"]
        return ["train", *settings, *SETTINGS, *place]

    return words


def runs_differ(one: pathlib.Path, other: pathlib.Path) -> str:
    a, b = (files.read_checkpoint(path / folder.CHECKPOINT) for path in (one, other))
    names = [n for n in a if n not in b or a[n].tobytes() != b[n].tobytes()]
    if names or a.keys() != b.keys():
        return f"checkpoints differ in {', '.join(names[:3]) or 'names'}"
    words = frames_differ(one / folder.METRICS, other / folder.METRICS)
    left = [p.name for p in one.glob(".*.tmp*")]
    return words or (f"left behind: {left}" if left else "")


def frames_differ(one: pathlib.Path, other: pathlib.Path) -> str:
    mine, theirs = files.read_frame(one), files.read_frame(other)
    try:
        pd.testing.assert_frame_equal(mine, theirs, check_exact=True)
    except AssertionError as error:
        return f"{one.name} differs: {' '.join(str(error).split())}"
    return ""


def sweeps_differ(one: pathlib.Path, other: pathlib.Path) -> str:
    name = "results.parquet"
    return frames_differ(one / name, other / name)


def figures_differ(one: pathlib.Path, other: pathlib.Path) -> str:
    for name in ("figure-6.csv", "figure-6.png", "figure-6.pdf"):
        if (one / name).read_bytes() != (other / name).read_bytes():
            return f"{name} differs"
    return ""


def sweep_words(path: pathlib.Path) -> list[str]:
    return [
        "sweep",
        "--env",
        "CartPole-v1",
        "--objective",
        "omd,mle",
        *SETTINGS,
        "--group-size",
        "1",
        "--out",
        str(path),
        "--workers",
        "1",
        "--quiet",
    ]


def figure_words(path: pathlib.Path) -> list[str]:
    return ["figure", "6", "--budget", "smoke", "--seeds", "2", "--out", str(path)]


METRICS = folder.METRICS
JOBS = [
    Job("CartPole-v1", run_of("CartPole-v1", "--seeds", "2"), METRICS, runs_differ, 30),
    Job(
        "HalfCheetah-v5",
        run_of("HalfCheetah-v5", "--evaluate-max-steps", "20"),
        METRICS,
        runs_differ,
        30,
    ),
    Job("a sweep", sweep_words, "sweep.json", sweeps_differ, 40, workers=True),
    Job("figure 6", figure_words, "figure-6.png", figures_differ, 8),
    Job("CartPole-v1 of Gymnasium", run_of("gymnasium:CartPole-v1"), METRICS, runs_differ, 30),
    Job(
        "Pendulum-v1 with SAC",
        run_of("Pendulum-v1", "--evaluate-max-steps", "50"),
        METRICS,
        runs_differ,
        30,
    ),
]


def start(job: Job, path: pathlib.Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *job.words(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "KILL_SCRIPT": SCRIPT, **variables},
    )


def finish(job: Job, path: pathlib.Path) -> float:
    """Let it end, and give the seconds from its first file on; raises `RuntimeError` with what a
    failing process says."""
    process = start(job, path)
    wait(process, job, path)
    begin = time.monotonic()
    _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{job.name} ended with {process.returncode}: {said}")
    return time.monotonic() - begin


def wait(process: subprocess.Popen[str], job: Job, path: pathlib.Path) -> None:
    """Until the first file is there, or the process ends."""
    while process.poll() is None and not (path / job.first).exists():
        time.sleep(0.005)


def descendants(pid: int) -> list[int]:
    """The process and all that it has started, their children too."""
    found = [pid]
    for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += descendants(int(child))
    return found


def kill_later(job: Job, path: pathlib.Path, seconds: float) -> bool:
    """Kill it and its workers so long after its first file; whether it was still at work."""
    process = start(job, path)
    wait(process, job, path)
    time.sleep(seconds)
    working = process.poll() is None
    for pid in descendants(process.pid) if working else []:
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    return working


def kill_in_a_write(job: Job, path: pathlib.Path, number: int, when: str) -> bool:
    """Let it, or a worker of it, kill itself before or after that write; whether one came so
    far. Raises `RuntimeError` where what goes on ends in a traceback."""
    mark = path.with_name(f"{path.name}-killed")
    mark.unlink(missing_ok=True)
    variables = {"KILL_AT": str(number), "KILL_WHEN": when, "KILL_MARK": str(mark)}
    variables |= {"KILL_WORKER": "1"} if job.workers else {}
    _, said = start(job, path, **variables).communicate()
    if "Traceback" in said:
        raise RuntimeError(f"{job.name} with a kill {when} write {number}: {said}")
    return mark.exists()


def attack(job: Job, path: pathlib.Path, seconds: float, kills: int, draw: random.Random) -> int:
    """Begin the job, kill it up to so many times, and let it end; how many kills hit it."""
    hits = 0
    for _ in range(kills):
        if draw.random() < 0.5:
            number, when = draw.randint(1, job.writes), draw.choice(["before", "after"])
            hit, how = kill_in_a_write(job, path, number, when), f"{when} write {number}"
        else:
            delay = draw.uniform(0, 0.7 * seconds)
            hit, how = kill_later(job, path, delay), f"{delay:.2f} s after its first file"
        hits += hit
        print(f"     {job.name}, {how}: {'killed' if hit else 'had ended'}", flush=True)
        if not hit:
            break
    finish(job, path)
    return hits


def main(wanted: int, jobs: list[Job] = JOBS, seed: int = 0) -> int:
    """How many of the jobs that were killed so many times in all end otherwise."""
    draw, kills, bad, number = random.Random(seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as base:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{base}/programs")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        whole: dict[str, float] = {}
        while kills < wanted:
            job = jobs[number % len(jobs)]
            right = pathlib.Path(base) / f"whole-{number % len(jobs)}"
            if job.name not in whole:
                whole[job.name] = finish(job, right)
            path = pathlib.Path(base) / str(number)
            most = min(draw.randint(1, 3), wanted - kills)
            hits = attack(job, path, whole[job.name], most, draw)
            words = job.difference(path, right)
            kills, bad, number = kills + hits, bad + bool(words), number + 1
            print(f"{kills:3}  {job.name}: {words or 'the same bits'}", flush=True)
    print(f"{kills} kills of {number} jobs; {number - bad} of {number} end as the undisturbed one")
    return bad


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 50) > 0)
