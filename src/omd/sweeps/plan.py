"""From lanes to groups: lanes of one shape run as one program, as many as memory holds."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from omd import memory
from omd.config import SETTINGS, Widths, layers_of
from omd.errors import InputError
from omd.settings import Settings

CPU_LANES = 4
"""Lanes of a group on a CPU core, which takes them one after another: more would only make
checkpoints rarer."""
MEMORY_SHARE = {"cpu": 0.2, "gpu": 0.7, "tpu": 0.7}
"""Of a worker's memory that the lanes' state may take. On a CPU a checkpoint being written holds
it several times."""
UPDATE_OVERHEAD = 8e6
"""FLOPs that would take as long as what a step does besides matrix products; for progress only."""

SHAPE = tuple(n for n, one in SETTINGS.items() if n != "seeds" and not one.metadata.get("lane"))


class Machine(NamedTuple):
    """What there is to run on."""

    platform: str
    devices: int
    """Workers at a time: accelerators, or cores."""
    memory: float
    """Bytes for each worker."""


class Group(NamedTuple):
    """Lanes that one program runs, on one device."""

    number: int
    lanes: tuple[int, ...]
    padded: Widths
    """Units of hidden layers to which the models are padded."""
    flops: float
    """Of one lane's step."""
    bytes: float
    """Of one lane."""

    def weight(self, lanes: Sequence[Settings]) -> float:
        """Work of the whole group, in arbitrary units."""
        return len(self.lanes) * lanes[self.lanes[0]].steps * (self.flops + UPDATE_OVERHEAD)


def shape_of(config: Settings) -> tuple[Any, ...]:
    """What all lanes of a program share."""
    return (*(getattr(config, name) for name in SHAPE), len(layers_of(config.model_hidden)))


def representative(lanes: Sequence[Settings], padded: Widths) -> Settings:
    """One configuration for all lanes of a shape: what they share, models of `padded` units, and
    defaults for what lanes may vary."""
    usual = {**lanes[0].learner.defaults, "discount": SETTINGS["discount"].default}
    varied: dict[str, Any] = {
        n: usual[n] for n, one in SETTINGS.items() if one.metadata.get("lane") and n in usual
    }
    return dataclasses.replace(lanes[0], seeds=(0,), **{**varied, "model_hidden": padded})


def shapes(lanes: Sequence[Settings]) -> dict[tuple[Any, ...], list[int]]:
    """Numbers of the lanes of each shape, in the order of the sweep."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for number, lane in enumerate(lanes):
        found.setdefault(shape_of(lane), []).append(number)
    return found


def widest(lanes: Sequence[Settings]) -> Widths:
    """Units of each hidden layer that the models of all these lanes fit in."""
    each = [layers_of(lane.model_hidden) for lane in lanes]
    return dataclasses.replace(lanes[0], model_hidden=tuple(map(max, *each, each[0]))).model_hidden


def machine(workers: int | None = None) -> Machine:
    """This machine; `workers` bounds how many groups run at a time. Starts JAX."""
    import jax

    device = jax.local_devices()[0]
    if device.platform == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        count = max(1, min(workers or 10**6, cores or 1))
        return Machine("cpu", count, memory.available() / count)
    stats = device.memory_stats() or {}
    count = max(1, min(workers or 10**6, jax.local_device_count()))
    return Machine(device.platform, count, float(stats.get("bytes_limit", 8e9)))


def groups(lanes: Sequence[Settings], on: Machine, size: int | None = None) -> tuple[Group, ...]:
    """Groups of lanes, those with the first seeds first.

    `size` bounds the lanes of a group; by default memory does, and on a CPU `CPU_LANES`. Raises
    `InputError` for lanes that can't be trained, or one that alone needs more than there is.
    """
    from omd.sweeps.cost import cost_of

    parts: list[tuple[tuple[int, ...], Widths, float, float]] = []
    for numbers in shapes(lanes).values():
        alike = [lanes[n] for n in numbers]
        padded = widest(alike)
        cost = cost_of(representative(alike, padded))
        most = int(MEMORY_SHARE.get(on.platform, 0.5) * on.memory / cost.bytes)
        if cost.bytes > on.memory:
            raise InputError(
                f"one lane needs {cost.bytes / 1e9:.1f} GB of {on.memory / 1e9:.1f} GB a worker: "
                "give fewer workers, a smaller replay_capacity or fewer distractors"
            )
        most = max(1, min(most, size or (CPU_LANES if on.platform == "cpu" else most)))
        count = math.ceil(len(numbers) / most)
        for part in range(count):
            chosen = numbers[len(numbers) * part // count : len(numbers) * (part + 1) // count]
            parts.append((tuple(chosen), padded, *cost))
    # a point's first seeds before its last: an unfinished sweep then has a bit of everything
    parts.sort(key=lambda part: lanes[part[0][0]].seed_list[0])
    return tuple(Group(number, *part) for number, part in enumerate(parts))
