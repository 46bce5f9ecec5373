"""What settings need of memory, before it is asked for. Imports no JAX: an answer comes at once."""

from __future__ import annotations

import operator
import os
from typing import Any

from omd import catalogue
from omd.config import UPDATES_KEPT, Config, layers_of
from omd.errors import InputError

ROW = 200
"""Bytes of an evaluation's row in Python, about."""


def available() -> float:
    """Bytes that programs may still take."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for text in file:
                if text.startswith("MemAvailable:"):
                    return 1024.0 * int(text.split()[1])
    except OSError:
        pass
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return 0.5 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 4e9


def in_words(count: float) -> str:
    """Bytes as people say them, such as 3.2 GB."""
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} EB"


def least(config: Config) -> dict[str, tuple[int, str]]:
    """Bytes that a run of this configuration takes at least, with the settings that they hang on,
    by what takes them. The environment isn't made: its own observation counts as one number."""
    lanes, number = len(config.seed_list), 8 if config.precision == "float64" else 4
    steps, every = _least(config, "steps"), _least(config, "evaluate_every")
    noise, batch = config.distractors, config.batch_size
    held = config.replay_capacity or steps
    found = {
        # two observations, action, reward, end
        "the replay buffer": (
            held * (5 + noise) * number,
            "replay_capacity" if config.replay_capacity else "steps (or give replay_capacity)",
        ),
        # w, the target and Adam's two moments
        "the Q-network": (
            4 * config.critics * _weights(config, "hidden", noise) * number,
            "hidden",
        ),
        "the model": (3 * _weights(config, "model_hidden", 2 * noise) * number, "model_hidden"),
        "a minibatch": (batch * (5 + 2 * noise) * number, "batch_size"),
        "the random numbers of a chunk": (
            4 * min(every, steps) * batch * config.updates,
            "evaluate_every or updates",
        ),
        "the rollouts' buffer": (
            (config.model_capacity or min(UPDATES_KEPT * config.rollout * batch, held))
            * (4 + 2 * noise)
            * number,
            "model_capacity" if config.model_capacity else "rollout (or give model_capacity)",
        ),
        "its evaluations' rows": (steps // every * ROW, "steps"),
        "an evaluation's episodes": (
            config.evaluate_episodes * (1 + noise) * number,
            "evaluate_episodes",
        ),
    }
    return {what: (lanes * count, settings) for what, (count, settings) in found.items()}


def _weights(config: Config, name: str, ends: int) -> int:
    """Weights of a network: between its hidden layers, and those of so many inputs and outputs."""
    widths = layers_of(_least(config, name))
    return sum(map(operator.mul, widths, widths[1:])) + ends * min(widths)


def _least(config: Config, name: str) -> Any:
    """A setting's value; where it is open, the smallest that a shipped learner would take."""
    value: Any = getattr(config, name)
    if value is not None:
        return value
    entries = catalogue.entries("learner")
    if config.learner != "auto":
        entries = {config.learner: entries[config.learner]} if config.learner in entries else {}
    return min((entry.defaults.get(name, 1) for entry in entries.values()), default=1)


def check(config: Config) -> None:
    """Raises `InputError` where a run of this configuration needs more memory than there is."""
    parts = least(config)
    total, there = sum(count for count, _ in parts.values()), available()
    if total > there:
        what = max(parts, key=lambda part: parts[part][0])
        count, settings = parts[what]
        lower = [settings]
        lower += ["distractors"] if config.distractors > 100 else []
        lower += ["seeds"] if len(config.seed_list) > 1 else []
        raise InputError(
            f"these settings need {in_words(total)} of memory or more ({what} {in_words(count)}), "
            f"and {in_words(there)} is free: lower {' or '.join(lower)}"
        )


def check_frames(count: float) -> None:
    """Raises `InputError` where the pictures of a film, of so many bytes, need more memory than
    there is."""
    if count > available():
        raise InputError(
            f"these pictures need {in_words(count)} of memory, and {in_words(available())} is "
            "free: lower steps"
        )


def check_draws(count: float) -> None:
    """Raises `InputError` where the random numbers of a chunk, of so many bytes, need more memory
    than there is."""
    if count > available():
        raise InputError(
            f"the random numbers of a chunk need {in_words(count)} of memory, and "
            f"{in_words(available())} is free: lower inner_steps, model_steps, batch_size, "
            "evaluate_every or seeds"
        )


def check_state(count: float) -> None:
    """Raises `InputError` where the state of all lanes, of so many bytes, needs more memory than
    there is."""
    if count > available():
        raise InputError(
            f"these settings need {in_words(count)} of memory, and {in_words(available())} is "
            "free: lower seeds, distractors, replay_capacity (by default all steps) or hidden"
        )
