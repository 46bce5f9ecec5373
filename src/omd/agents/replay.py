"""A ring buffer of transitions as a pytree: one row of numbers a transition, so that a minibatch is
a single gather."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from omd.types import EnvSpec, Transition


class Replay(NamedTuple):
    rows: Float[Array, "capacity row"]
    added: Int[Array, ""]
    """Transitions ever added; the buffer holds the last min(added, capacity) of them."""


def row_size(spec: EnvSpec) -> int:
    return 2 * spec.observation_size + (spec.action_size or 1) + 2


def empty(spec: EnvSpec, capacity: int, dtype) -> Replay:
    return Replay(jnp.zeros((capacity, row_size(spec)), dtype), jnp.zeros((), jnp.int32))


def add(replay: Replay, transition: Transition) -> Replay:
    """Write one transition over the oldest."""
    dtype = replay.rows.dtype
    row = jnp.concatenate([jnp.ravel(x).astype(dtype) for x in transition])
    capacity = replay.rows.shape[0]
    return Replay(replay.rows.at[replay.added % capacity].set(row), replay.added + 1)


def sample(replay: Replay, bits: UInt32[Array, batch], spec: EnvSpec) -> Transition:
    """A minibatch drawn uniformly with replacement; leaves are [batch, ...].

    `bits` are uniform 32-bit numbers. Taking them modulo the number of transitions held favours
    no transition by more than a factor 1 + 2⁻³² · held.
    """
    held = jnp.minimum(replay.added, replay.rows.shape[0]).astype(jnp.uint32)
    index = (bits % held).astype(jnp.int32)
    rows = replay.rows.at[index].get(mode="promise_in_bounds")
    observations, action_size = spec.observation_size, spec.action_size or 1
    ends = [observations, observations + action_size, observations + action_size + 1]
    ends.append(ends[-1] + observations)
    observation, action, reward, next_observation, terminated = jnp.split(rows, ends, axis=1)
    if spec.num_actions is not None:
        action = action[:, 0].astype(jnp.int32)
    return Transition(
        observation, action, reward[:, 0], next_observation, terminated[:, 0].astype(bool)
    )
