"""The one error that stands for bad input, and the nearest names it suggests. Imports no JAX, so
that the command line can catch it early."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 600
"""Characters of a sentence; of a longer one, because of the value in it, the middle is left out."""


class InputError(ValueError):
    """Bad input from a user: one sentence with what was wrong, the value seen, what to do."""

    def __init__(self, sentence: str = "") -> None:
        words = " ".join(sentence.split())
        if len(words) > LONGEST:
            words = f"{words[: LONGEST // 2]} … {words[-LONGEST // 2 :]}"
        super().__init__(words)


class Notice(UserWarning):
    """Something that went wrong without costing a result, in one sentence."""


def in_a_line(error: BaseException) -> str:
    """What an error of another library, or of the system, says: one line, never empty."""
    try:
        words = " ".join(str(getattr(error, "strerror", None) or error).split())[:300]
    except Exception:  # an error of somebody else's that can't say what it is
        words = ""
    return words or type(error).__name__


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy or XLA says that memory is used up."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in in_a_line(error)


DISTRIBUTION = "omd-rl"
"""What `pip install` calls this package: `omd` there is somebody else's."""


def install(extra: str) -> str:
    """The command that installs one of this package's extras."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Those of the known names that look like `name`, best first; upper and lower case alike."""
    by_lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(str(name).lower(), by_lower, n=count, cutoff=0.65)
    return [by_lower[one] for one in found]


def closest(what: str, name: str, known: Iterable[str]) -> str:
    """`name` if it is known, else `InputError` with the nearest names, or all where none is near
    and they are few."""
    known = sorted(known)
    if name in known:
        return name
    near = nearest(name, known)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif len(known) <= 12:
        hint = f"give one of {', '.join(known)}" if known else "there is none"
    else:
        hint = "no name is near; `omd list` shows all"
    raise InputError(f"unknown {what} {name!r}: {hint}")
