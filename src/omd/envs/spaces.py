"""Spaces of gymnax and Gymnasium alike, as far as agents here can use them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from omd.errors import InputError

LARGEST_BOUND = 1e30
"""Of actions: larger ones are taken for infinite."""
MOST_ACTIONS = 1_000_000
"""Discrete ones."""
MOST_NUMBERS = 1_000_000
"""Of an observation."""


def kind(space: Any) -> str:
    """The name that both libraries give a space: 'Discrete', 'Box', 'Dict', ..."""
    return type(space).__name__


def action_fields(id: str, space: Any) -> dict[str, Any]:
    """The fields of `EnvSpec` that describe actions; raises `InputError` where none can."""
    if kind(space) == "Discrete":
        if space.n > MOST_ACTIONS:
            raise InputError(
                f"environment {id!r} has {space.n:,} actions, each an output of the Q-network: at "
                f"most {MOST_ACTIONS:,} are taken here"
            )
        return {"num_actions": int(space.n)}
    if kind(space) != "Box" or not np.issubdtype(np.dtype(space.dtype), np.floating):
        raise InputError(
            f"environment {id!r} takes actions from {space}: wrap it so that they come from a "
            "Discrete space or a Box of floats"
        )
    low, high = (
        np.broadcast_to(np.asarray(bound, np.float64), space.shape).ravel()
        for bound in (space.low, space.high)
    )
    if not low.size:
        raise InputError(
            f"environment {id!r} takes actions from {space}, which have no component: give it one"
        )
    # in the precision that actions are computed in, and far enough from its end to be added up
    if not (np.abs([low, high]) < LARGEST_BOUND).all():
        raise InputError(
            f"environment {id!r} takes actions from {space}, which has no finite bounds: wrap it "
            "with gymnasium.wrappers.RescaleAction or give the space bounds"
        )
    if not (low.astype(np.float32) < high.astype(np.float32)).all():
        at = int(np.argmin(low.astype(np.float32) < high.astype(np.float32)))
        raise InputError(
            f"environment {id!r} takes actions whose component {at} lies between {low[at]} and "
            f"{high[at]}, where float32 leaves no choice: leave that component out, or rescale it"
        )
    return {
        "num_actions": None,
        "action_size": math.prod(space.shape),
        "action_low": tuple(low.tolist()),
        "action_high": tuple(high.tolist()),
    }
