"""What every environment here offers, and the key from which each of its random numbers comes."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array

from omd.types import BatchedEnv


@runtime_checkable
class Env(BatchedEnv, Protocol):
    """A batched environment whose whole state can be written to a checkpoint.

    The state of a JAX environment is the pytree that `step` returns. A host environment keeps
    the rest in Python: `snapshot` gives it as plain arrays, `restore` brings it back. Its
    `divergences` are the lanes whose simulator gave what isn't finite, with what there is to say.
    """

    lanes: int
    dtype: np.dtype

    def snapshot(self) -> dict[str, np.ndarray]: ...

    def restore(self, snapshot: dict[str, np.ndarray]) -> None: ...

    def divergences(self) -> Mapping[int, object]: ...

    def close(self) -> None: ...


class Draw(enum.IntEnum):
    """What a random number is for. The numbers are part of what makes a run reproducible."""

    TRANSITION = 0
    EPISODE = 1
    """Start of an episode: initial state of a JAX environment, seed of a host environment."""
    NOISE = 2
    """Distractors of a step's true successor."""
    EPISODE_NOISE = 3
    """Distractors of the first observation of an episode."""


def derive(key: Array, draw: Draw) -> Array:
    """Key of one draw, from the key that a lane's `reset` or `step` was given."""
    return jax.random.fold_in(key, draw.value)
