"""How the lanes of a device run: from functions of one lane, and of lanes that have to step
together, functions of all."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from omd.training.chunk import Chunk, LaneState
from omd.types import Metrics, PyTree

Advance = Callable[[LaneState], tuple[LaneState, Metrics]]


class Strategy(NamedTuple):
    """One way to run several lanes."""

    chunk: Callable[[Chunk], Advance]
    """A chunk of several lanes, from that of one."""
    evaluation: Callable[[Callable], Callable]
    """An evaluation of several lanes, from one that takes them together."""
    update: Callable[[Callable], Callable]
    """What a chunk of one lane takes for the agent's update."""


def choose(*, on_host: bool) -> Strategy:
    """The quickest on this device (docs/performance.md), for an environment in JAX or on the
    host."""
    if jax.default_backend() != "cpu":
        return VMAPPED
    return HOST if on_host else IN_TURN


def _chunk_in_turn(chunk: Chunk) -> Advance:
    """The replay buffers stay where they are, so that none is copied."""

    def one(buffers, turn):
        index, rest = turn
        lane, metrics = chunk(LaneState(replay=buffers, **rest), (index,))
        rest = lane._asdict()
        return rest.pop("replay"), (rest, metrics)

    def lanes(state: LaneState) -> tuple[LaneState, Metrics]:
        rest = state._asdict()
        buffers = rest.pop("replay")
        turns = jnp.arange(len(state.step)), rest
        buffers, (rest, metrics) = jax.lax.scan(one, buffers, turns)
        return LaneState(replay=buffers, **rest), metrics

    return lanes


def alone(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """A function of several lanes as one of a single lane. Under `jax.vmap` it is called once with
    all lanes, as an environment on the host must be."""

    @jax.custom_batching.custom_vmap
    def one(*lane: PyTree) -> PyTree:
        return jax.tree.map(lambda x: x[0], function(*jax.tree.map(lambda x: x[None], lane)))

    @one.def_vmap
    def _(size: int, batched: list[PyTree], *lanes: PyTree) -> tuple[PyTree, PyTree]:
        full = jax.tree.map(
            lambda x, has: x if has else jnp.broadcast_to(x, (size, *x.shape)), list(lanes), batched
        )
        results = function(*full)
        return results, jax.tree.map(lambda _: True, results)

    return one


def _as_it_is(function: Callable) -> Callable:
    return function


VMAPPED = Strategy(jax.vmap, _as_it_is, _as_it_is)
"""All lanes at once."""
IN_TURN = Strategy(
    _chunk_in_turn, lambda of_lanes: functools.partial(jax.lax.map, alone(of_lanes)), _as_it_is
)
"""One lane after another."""
HOST = Strategy(jax.vmap, _as_it_is, jax.custom_batching.sequential_vmap)
"""All lanes step at once, as a simulator on the host must; each is updated by itself."""
