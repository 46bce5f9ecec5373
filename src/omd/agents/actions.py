"""Continuous actions, between the environment's range and [−1, 1], which networks work in."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from omd.types import EnvSpec


def to_unit(spec: EnvSpec, action: Float[Array, "*batch act"]) -> Float[Array, "*batch act"]:
    """From the environment's range to [−1, 1]."""
    middle, half = _middle_and_half(spec)
    return (action - jnp.asarray(middle, action.dtype)) / jnp.asarray(half, action.dtype)


def to_range(spec: EnvSpec, unit: Float[Array, "*batch act"]) -> Float[Array, "*batch act"]:
    """From [−1, 1] to the environment's range, never beyond it by rounding."""
    middle, half = _middle_and_half(spec)
    low, high = (jnp.asarray(bound, unit.dtype) for bound in (spec.action_low, spec.action_high))
    return jnp.clip(
        jnp.asarray(middle, unit.dtype) + unit * jnp.asarray(half, unit.dtype), low, high
    )


def _middle_and_half(spec: EnvSpec) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.asarray(spec.action_low), np.asarray(spec.action_high)
    return (low + high) / 2, (high - low) / 2
