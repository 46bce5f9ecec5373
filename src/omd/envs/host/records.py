"""A step's question and answer as records of NumPy, one a lane: what lanes take and give, and the
bytes in which they go to a worker and back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import DTypeLike


class Rows(NamedTuple):
    """What comes of a step, in the order of the lanes that were asked."""

    clock: Int[np.ndarray, " n"]
    observation: Float[np.ndarray, "n obs"]
    """The ones to go on from."""
    next_observation: Float[np.ndarray, "n obs"]
    """The true successors."""
    reward: Float[np.ndarray, " n"]
    terminated: Bool[np.ndarray, " n"]
    truncated: Bool[np.ndarray, " n"]


def question(action_shape: tuple[int, ...], action_dtype: DTypeLike) -> np.dtype:
    """Record of a lane to step: its index, clock, next episode's seed, and action."""
    numbers = [(name, np.int32) for name in ("lane", "clock", "seed")]
    return np.dtype([*numbers, ("action", action_dtype, action_shape)])


def answer(size: int, dtype: DTypeLike) -> np.dtype:
    """Record of a row, with observations of `size` numbers."""
    vector = (size,)
    fields = (np.int32, ()), (dtype, vector), (dtype, vector), (dtype, ()), (bool, ()), (bool, ())
    return np.dtype([(name, *field) for name, field in zip(Rows._fields, fields, strict=True)])


def pack(dtype: np.dtype, *columns: np.ndarray) -> np.ndarray:
    """Records [n] from their columns [n, ...]."""
    records = np.empty(len(columns[0]), dtype)
    for name, column in zip(dtype.names or (), columns, strict=True):
        records[name] = column
    return records


def unpack(records: np.ndarray) -> list[np.ndarray]:
    """The columns [n, ...] of records."""
    return [records[name] for name in records.dtype.names or ()]
