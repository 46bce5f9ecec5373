"""What the benchmarks share: the machine in a line, and cases that take turns in processes."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent


class Case(NamedTuple):
    """A process that measures: `code` defines an iterator `figures` of tuples of floats."""

    code: str
    python: str = sys.executable


def begin(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line with `--rounds`; prints the machine."""
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each case")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error(f"--rounds is {options.rounds}: give at least 2, for the quartiles")

    from omd.runs.provenance import made_with

    machine = made_with()
    print(f"{machine['processor']}, JAX {machine['versions']['jax']}, {machine['device']}")
    return options


def begin_beside_sbx(description: str) -> tuple[int, str | None]:
    """`begin`; returns the rounds and the Python that has sbx-rl: the command line's, or this one
    if it does, else None."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--sbx", metavar="PYTHON", help="the Python of an environment with sbx-rl")
    options = begin(parser)
    python = options.sbx or (sys.executable if importlib.util.find_spec("sbx") else None)
    if python is None:
        print("without SBX, which isn't installed here: --sbx PYTHON names a Python that has it")
    return options.rounds, python


def sbx(agent: str, python: str, first: int, chunk: int) -> Case:
    """Steps a second of SBX's own `learn`, `chunk` steps at a time after the `first`, which
    compile; `agent` is the code that makes it."""
    return Case(
        f"""
import time
{agent}
def measured():
    agent.learn({first})
    while True:
        begin = time.perf_counter()
        agent.learn({chunk}, reset_num_timesteps=False)
        yield ({chunk} / (time.perf_counter() - begin),)
figures = measured()
""",
        python,
    )


def in_turn(cases: Mapping[str, Case], rounds: int) -> dict[str, list[tuple[float, ...]]]:
    """Each case's figures, each of them over `rounds`, with one case at work at a time.

    A machine's speed drifts from minute to minute by more than what is to be told apart; within
    a round all cases meet the same, so ratios are to be taken round by round (`ratio`). A first
    round, in which the cases compile, isn't counted. Exits with a case's errors if it fails.
    """
    workers = {name: _Worker(case) for name, case in cases.items()}
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in cases}
    try:
        for name, worker in workers.items():
            worker.next(name)
        for _ in range(rounds):
            for name, worker in workers.items():
                found[name].append(worker.next(name))
    finally:
        for worker in workers.values():
            worker.process.kill()
    return {name: list(zip(*rows, strict=True)) for name, rows in found.items()}


def spread(figures: Iterable[float]) -> str:
    """Median and quartiles over rounds."""
    low, middle, high = statistics.quantiles(figures, n=4)
    digits = max(0, 2 - math.floor(math.log10(abs(middle) or 1)))
    return f"{middle:,.{digits}f} ({low:,.{digits}f}–{high:,.{digits}f})"


def ratio(above: Iterable[float], below: Iterable[float]) -> list[float]:
    """One figure over another, round by round."""
    return [a / b for a, b in zip(above, below, strict=True)]


class _Worker:
    def __init__(self, case: Case):
        head = f"import sys\nsys.path.insert(0, {str(HERE)!r})\n"
        loop = "\nfor line in sys.stdin:\n    print(*next(figures), flush=True)\n"
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [case.python, "-c", head + case.code + loop],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def next(self, name: str) -> tuple[float, ...]:
        line = ""
        with contextlib.suppress(BrokenPipeError):
            print(file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            sys.exit(f"{name} failed:\n{self.errors.read()}")
        return tuple(map(float, line.split()))
