"""What the benchmarks beside SBX share: the machine in a line, cases in processes."""

from __future__ import annotations

import argparse
import subprocess
import sys


def begin(description: str) -> str:
    """Print the machine; returns the Python that has sbx-rl, from the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--sbx", default=sys.executable, help="Python that has sbx-rl")
    arguments = parser.parse_args()

    from omd.training.provenance import provenance

    machine = provenance()
    print(f"{machine['processor']}, JAX {machine['versions']['jax']}, {machine['device']}")
    return arguments.sbx


def last_line(command: list[str]) -> str:
    """The last line that a command prints; exits with its errors if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout.splitlines()[-1]
