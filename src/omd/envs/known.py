"""Whether an environment's id can be one at all: an answer without JAX, at once."""

from __future__ import annotations

import importlib.util
import pathlib
import re
from typing import Any

from omd.errors import InputError, nearest


def check(env: Any) -> None:
    """Raises `InputError` for an id without a prefix that neither Gymnasium nor gymnax knows.
    `envs.make` finds out the rest."""
    if not isinstance(env, str) or ":" in env or not env.strip():
        return
    import gymnasium

    known = [*gymnasium.registry, *_of_gymnax()]
    if env not in known:
        raise unknown(env, known)


def unknown(env: str, known: list[str]) -> InputError:
    """The sentence for an id that is none of those known."""
    near = nearest(env, known)
    hint = f"the nearest are {', '.join(near)}" if near else "no id is near"
    return InputError(f"unknown environment {env!r}: {hint}; `omd list environments` shows all")


def _of_gymnax() -> list[str]:
    """Whatever may be an id in gymnax' registry, which is read as text: importing it takes JAX."""
    spec = importlib.util.find_spec("gymnax")
    if spec is None or spec.origin is None:
        return []
    text = pathlib.Path(spec.origin).with_name("registration.py").read_text("utf-8")
    return re.findall(r"""["']([\w.]+-[\w.-]+)["']""", text)
