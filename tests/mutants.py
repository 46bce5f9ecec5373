"""Plants the mutations of mutants.toml one at a time into a copy of the package, and runs the test
that is to catch each.

    python tests/mutants.py             all of them, a table at the end
    python tests/mutants.py NAME ...    some of them

A mutation is caught when its test fails with it. The exit code is 1 where one survives.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]


def read() -> dict[str, dict[str, Any]]:
    """The mutations by name; raises `ValueError` for one that can't be planted in one place."""
    found = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text("utf-8"))
    for name, one in found.items():
        count = (ROOT / "src" / "omd" / one["file"]).read_text("utf-8").count(one["before"])
        if count != 1:
            raise ValueError(f"{name}: its text stands {count} times in {one['file']}, not once")
        path = one["test"].partition("::")[0]
        if not (ROOT / "tests" / path).exists():
            raise ValueError(f"{name}: there is no tests/{path}")
    return found


def survives(one: dict[str, Any]) -> bool:
    """Whether the mutation's test passes with it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "src"
        shutil.copytree(ROOT / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))
        path = copy / "omd" / one["file"]
        path.write_text(path.read_text("utf-8").replace(one["before"], one["after"]), "utf-8")
        words = ["-m", "pytest", "-n", "0", "-q", "-x", "-p", "no:cacheprovider"]
        selection = ["-k", one["select"]] if "select" in one else []
        done = subprocess.run(
            [sys.executable, *words, f"tests/{one['test']}", *selection],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(copy), "OPENBLAS_NUM_THREADS": "1"},
        )
    if done.returncode not in (0, 1):  # nothing was run
        raise RuntimeError(done.stdout + done.stderr)
    return done.returncode == 0


def main() -> int:
    mutants = read()
    wanted = sys.argv[1:] or list(mutants)
    surviving = []
    for name in wanted:
        lives = survives(mutants[name])
        surviving += [name] if lives else []
        print(f"{'SURVIVES' if lives else 'caught  '}  {name}", flush=True)
    print(f"{len(wanted) - len(surviving)} of {len(wanted)} caught")
    return 1 if surviving else 0


if __name__ == "__main__":
    sys.exit(main())
