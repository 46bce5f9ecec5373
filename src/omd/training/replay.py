"""A ring buffer of transitions as a pytree: one row of numbers a transition, so that a minibatch is
a single gather; and distractors stored once, for they fill most of the memory."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from omd.types import EnvSpec, Transition

Lane = tuple[()] | tuple[Int[Array, ""] | int]
"""The index of a lane among a replay's, or nothing where it is one lane's."""


class Replay(NamedTuple):
    """Of one lane, or of several with a leading axis; `add` and `sample` then take the lane's
    index, so that a compiled loop writes in place and copies no buffer."""

    rows: Float[Array, "*lane slots row"]
    distractors: Float[Array, "*lane slots noise"]
    """Those of a transition's first state; those of its second are in the next slot, because both
    observations of a step have the same (`EnvSpec.distractors`)."""
    added: Int[Array, "*lane"]
    """Transitions ever added; the buffer holds the last min(added, capacity) of them."""


def row_size(spec: EnvSpec) -> int:
    return 2 * (spec.observation_size - spec.distractors) + (spec.action_size or 1) + 2


def slots(spec: EnvSpec, capacity: int) -> int:
    """Slots for so many transitions: with distractors one more, for those of the last successor."""
    return capacity + (spec.distractors > 0)


def empty(spec: EnvSpec, capacity: int, dtype) -> Replay:
    count = slots(spec, capacity)
    rows = jnp.zeros((count, row_size(spec)), dtype)
    return Replay(rows, jnp.zeros((count, spec.distractors), dtype), jnp.zeros((), jnp.int32))


def add(replay: Replay, transition: Transition, lane: Lane = ()) -> Replay:
    """Write one transition over the lane's oldest."""
    dtype, (count, noise) = replay.rows.dtype, replay.distractors.shape[-2:]
    own = transition.observation.shape[0] - noise
    after = transition.next_observation
    row = transition._replace(
        observation=transition.observation[:own], next_observation=after[:own]
    )
    numbers = jnp.concatenate([jnp.ravel(x).astype(dtype) for x in row])
    slot = replay.added[lane] % count
    distractors = replay.distractors
    if noise:
        distractors = distractors.at[(*lane, slot)].set(transition.observation[own:].astype(dtype))
        following = (slot + 1) % count
        distractors = distractors.at[(*lane, following)].set(after[own:].astype(dtype))
    rows = replay.rows.at[(*lane, slot)].set(numbers)
    return Replay(rows, distractors, replay.added.at[lane].add(1))


def held(replay: Replay, lane: Lane = ()) -> UInt32[Array, ""]:
    """Transitions that the lane's buffer holds."""
    count, noise = replay.distractors.shape[-2:]
    return jnp.minimum(replay.added[lane], count - (noise > 0)).astype(jnp.uint32)


def sample(
    replay: Replay, bits: UInt32[Array, " batch"], spec: EnvSpec, lane: Lane = ()
) -> Transition:
    """A minibatch of the lane, drawn uniformly with replacement; leaves are [batch, ...].

    `bits` are uniform 32-bit numbers. Taking them modulo the number of transitions held favours
    no transition by more than a factor 1 + 2⁻³² · held.
    """
    count, noise = replay.distractors.shape[-2:]
    capacity = count - (noise > 0)
    added = replay.added[lane]
    index = (bits % held(replay, lane)).astype(jnp.int32)
    if noise:  # the slot after the newest transition holds half of one
        index = (index + jnp.maximum(added - capacity, 0)) % count
    return _at(replay, index, spec, lane)


def largest_reward(replay: Replay, spec: EnvSpec, lane: Lane = ()) -> Float[Array, ""]:
    """The largest |r| that the lane's buffer holds."""
    place = spec.observation_size - spec.distractors + (spec.action_size or 1)
    return jnp.max(jnp.abs(replay.rows[(*lane, slice(None), place)]))


def windows(
    replay: Replay, bits: UInt32[Array, " batch"], size: int, spec: EnvSpec, lane: Lane = ()
) -> list[Transition]:
    """`size` minibatches: transitions of the lane drawn uniformly, the ones that were added after
    them, and so on. The buffer must hold `size` transitions or more."""
    count, added = replay.distractors.shape[-2], replay.added[lane]
    there = held(replay, lane).astype(added.dtype)
    first = (bits % (there - size + 1).astype(jnp.uint32)).astype(jnp.int32) + added - there
    return [_at(replay, (first + i) % count, spec, lane) for i in range(size)]


def _at(replay: Replay, index: Int[Array, " batch"], spec: EnvSpec, lane: Lane) -> Transition:
    """The transitions in these slots."""
    count, noise = replay.distractors.shape[-2:]
    rows = replay.rows.at[(*lane, index)].get(mode="promise_in_bounds")
    own, action_size = spec.observation_size - noise, spec.action_size or 1
    ends = [own, own + action_size, own + action_size + 1]
    ends.append(ends[-1] + own)
    observation, action, reward, next_observation, terminated = jnp.split(rows, ends, axis=1)
    if noise:
        before, after = (
            replay.distractors.at[(*lane, at)].get(mode="promise_in_bounds")
            for at in (index, (index + 1) % count)
        )
        observation = jnp.concatenate([observation, before], axis=1)
        next_observation = jnp.concatenate([next_observation, after], axis=1)
    if spec.num_actions is not None:
        action = action[:, 0].astype(jnp.int32)
    return Transition(
        observation, action, reward[:, 0], next_observation, terminated[:, 0].astype(bool)
    )
