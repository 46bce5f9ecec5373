"""What `omd figure` can make, found by the names of files: `figure_NAME.py` in this room.

Each of them has a function `make(out, *, …)`. Its parameters are the options that the figure takes.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from omd.errors import InputError, closest

ROOM = "omd.figures"
PREFIX = "figure_"


def places() -> dict[str, str]:
    """The module of each figure by its name: the paper's numbers, then the others. None of them
    is imported."""
    found = {}
    for room in (ROOM, f"{ROOM}.paper"):
        for one in pkgutil.iter_modules(importlib.import_module(room).__path__):
            if one.name.startswith(PREFIX):
                found[one.name.removeprefix(PREFIX)] = f"{room}.{one.name}"
    return dict(sorted(found.items()))


def module(name: str) -> ModuleType:
    """The module that makes a figure. Raises `InputError` for an unknown name."""
    known = places()
    return importlib.import_module(known[closest("figure", name, known)])


def purpose(name: str) -> str:
    """The first sentence of a figure's docstring, in one line, without its name."""
    first = (module(name).__doc__ or "").split("\n\n")[0].split(". ")[0]
    words = " ".join(first.split()).removeprefix(f"Figure {name}: ").rstrip(".")
    return words[:1].lower() + words[1:]


def options(name: str) -> list[str]:
    """The parameters of a figure's `make` beside the folder."""
    return list(inspect.signature(module(name).make).parameters)[1:]


def plan(
    names: Sequence[str],
    given: Mapping[str, object],
    flags: Mapping[str, str],
    say: Callable[[str], None],
) -> list[Callable[[Path], list[Path]]]:
    """For each figure what makes it in a folder, with those of the options given that it takes.

    `flags` is how each option is written on the command line, `say` what shows a line of progress.
    Raises `InputError` for an unknown figure, and for an option that none of them takes.
    """
    takes = {name: options(name) for name in names}
    for option in given:
        if not any(option in mine for mine in takes.values()):
            others = [name for name in places() if option in options(name)]
            words = " or ".join(filter(None, (", ".join(others[:-1]), others[-1])))
            raise InputError(f"{flags[option]} goes with figure {words}: leave it out")
    passed = {**given, "say": say}
    return [
        functools.partial(module(name).make, **{k: passed[k] for k in mine if k in passed})
        for name, mine in takes.items()
    ]
