"""What a lane costs, counted from its traced program before anything is compiled."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from omd.config import Config
from omd.training import folder
from omd.training.loop import Program
from omd.types import PyTree


class Cost(NamedTuple):
    """Of one lane."""

    flops: float
    """Floating-point operations of the matrix products in one environment step with its update;
    of an iterative hypergradient, as many products as it may take."""
    bytes: float
    """Of its state: replay buffer, networks, and the random numbers of a chunk."""


@functools.cache
def cost_of(config: Config) -> Cost:
    """The cost of a lane with these settings; raises `InputError` where they can't be trained."""
    with folder.precision(config):
        program = folder.program_of(config, 1)
        state = jax.eval_shape(lambda: program.fresh([config]))
        config = program.config  # the resolved one
        traced = jax.make_jaxpr(lambda s: program.advance(s, 1, True))(state)
    method = program.agent.objective.method
    trips = getattr(method, "max_steps", getattr(method, "restart", 1))
    minibatches = program.agent.objective.minibatches
    draws = 4 * config.evaluate_every * config.batch_size * minibatches
    return Cost(_flops(traced.jaxpr, trips), size_of(state) + draws)


def size_of(tree: PyTree) -> int:
    """Bytes of all arrays of a pytree, random keys included."""

    def one(leaf: Any) -> int:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        return math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize

    return sum(one(leaf) for leaf in jax.tree.leaves(tree))


def _flops(jaxpr: Any, trips: int) -> float:
    """Of the matrix products in a jaxpr; loops of unknown length count `trips` times."""
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            inner = math.prod(left[i] for i in contracted)
            total += 2 * inner * math.prod(equation.outvars[0].aval.shape)
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        times = trips if equation.primitive.name == "while" else times
        inner_jaxprs = [_flops(sub, trips) for sub in _inner(equation)]
        if equation.primitive.name == "cond":
            total += max(inner_jaxprs)
        else:
            total += times * sum(inner_jaxprs)
    return total


def _inner(equation: Any) -> list[Any]:
    """The jaxprs that an equation runs."""
    found = []
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            one = getattr(one, "jaxpr", one)
            if hasattr(one, "eqns"):
                found.append(one)
    return found


def seconds_per_lane_step(
    config: Config, lanes: int, program_of: Callable[[Config, int], Program]
) -> float:
    """Measured on one device, compile time apart: for estimates."""
    steps = 300
    config = dataclasses.replace(config, evaluate_every=steps)
    with folder.precision(config):
        program = program_of(config, lanes)
        state = program.place(program.fresh([config] * lanes))
        state, _ = program.advance(state, config.batch_size, False)
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            state, metrics = program.advance(state, steps, True)
            jax.block_until_ready(metrics)
            times.append(time.perf_counter() - begin)
    return min(times[1:]) / (steps * lanes)


def line(points: Sequence[tuple[float, float]], at: float) -> float:
    """Seconds at so many FLOPs, on the line through the measured ends, never below the first."""
    (x0, y0), (x1, y1) = points[0], points[-1]
    slope = 0.0 if x1 == x0 else (y1 - y0) / (x1 - x0)
    return max(y0 + slope * (at - x0), min(y0, y1))
