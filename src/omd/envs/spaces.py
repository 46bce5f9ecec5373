"""Spaces of gymnax and Gymnasium alike, as far as agents here can use them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from omd.errors import InputError


def kind(space: Any) -> str:
    """The name that both libraries give a space: 'Discrete', 'Box', 'Dict', ..."""
    return type(space).__name__


def action_fields(id: str, space: Any) -> dict[str, Any]:
    """The fields of `EnvSpec` that describe actions; raises `InputError` where none can."""
    if kind(space) == "Discrete":
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
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise InputError(
            f"environment {id!r} takes actions from {space}, which has no finite bounds: wrap it "
            "with gymnasium.wrappers.RescaleAction or give the space bounds"
        )
    return {
        "num_actions": None,
        "action_size": math.prod(space.shape),
        "action_low": tuple(low.tolist()),
        "action_high": tuple(high.tolist()),
    }
