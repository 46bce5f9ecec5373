"""What the benchmarks beside SBX share: the machine in a line, cases in processes."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys


def begin(description: str) -> str | None:
    """Print the machine; returns the Python that has sbx-rl: the command line's, or this one if it
    does, else None."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--sbx", metavar="PYTHON", help="the Python of an environment with sbx-rl")
    arguments = parser.parse_args()
    python = arguments.sbx or (sys.executable if importlib.util.find_spec("sbx") else None)
    if python is None:
        print("without SBX, which isn't installed here: --sbx PYTHON names a Python that has it")

    from omd.training.provenance import provenance

    machine = provenance()
    print(f"{machine['processor']}, JAX {machine['versions']['jax']}, {machine['device']}")
    return python


def last_line(command: list[str]) -> str:
    """The last line that a command prints; exits with its errors if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout.splitlines()[-1]
