"""What a lane costs, counted from its traced program before anything is compiled."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from omd.agents import networks
from omd.runs import folder
from omd.settings import Settings
from omd.training.chunk import ONCE
from omd.training.program import Program
from omd.types import PyTree

Shape = tuple[int, int, int]
"""Of a matrix product: m, k, n for [m, k] @ [k, n]."""


class Cost(NamedTuple):
    """Of one lane."""

    flops: float
    """Floating-point operations of the matrix products in one environment step with its update;
    of an iterative hypergradient, as many products as it may take."""
    bytes: float
    """Of its state: replay buffer, networks, and the random numbers of a chunk."""


@functools.cache
def cost_of(config: Settings) -> Cost:
    """The cost of a lane with these settings; raises `InputError` where they can't be trained."""
    program, state, traced = _traced(config)
    minibatches = program.agent.minibatches
    draws = 4 * program.config.evaluate_every * program.config.batch_size * minibatches
    return Cost(flops_of(_products(traced, _trips(program))), folder.size_of(state) + draws)


def products_of(config: Settings) -> dict[Shape, int]:
    """The matrix products of one environment step of a lane with its update, and how often."""
    program, _, traced = _traced(config)
    return dict(_products(traced, _trips(program)))


def flops_of(products: Mapping[Shape, int]) -> float:
    """Floating-point operations of so many products."""
    return float(sum(2 * math.prod(shape) * count for shape, count in products.items()))


def _traced(config: Settings) -> tuple[Program, PyTree, Any]:
    with folder.precision(config):
        program = folder.program_of(config, 1)
        state = jax.eval_shape(lambda: program.fresh([config]))
        return (
            program,
            state,
            jax.make_jaxpr(lambda s: program.advance(s, 1, learn=True))(state).jaxpr,
        )


def _trips(program: Program) -> int:
    """Products that an iterative hypergradient may take."""
    return program.agent.method.products


def _products(jaxpr: Any, trips: int) -> Counter[Shape]:
    """Those of a jaxpr, but for those of biases and those that a chunk does once; linear solves and
    loops of unknown length count `trips` times."""
    total: Counter[Shape] = Counter()
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        where = str(equation.source_info.name_stack)
        if name == "dot_general" and networks.BIAS not in where and ONCE not in where:
            shape, count = _shape(equation)
            total[shape] += count
        times = equation.params.get("length", 1) if name == "scan" else 1
        times = trips if name in ("while", "linear_solve") else times
        inner = [_products(sub, trips) for sub in _inner(equation)]
        if inner and name in ("cond", "linear_solve"):  # branches; copies of lineax's operator
            inner = [max(inner, key=flops_of)]
        for one in inner:
            for shape, count in one.items():
                total[shape] += times * count
    return total


def _shape(equation: Any) -> tuple[Shape, int]:
    """Of a dot_general, and the number of such products in its batch."""
    (contracted, _), (batched, _) = equation.params["dimension_numbers"]
    left, right = (x.aval.shape for x in equation.invars)
    batch = math.prod(left[i] for i in batched)
    k = math.prod(left[i] for i in contracted)
    return (math.prod(left) // max(1, batch * k), k, math.prod(right) // max(1, batch * k)), batch


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
    config: Settings, lanes: int, program_of: Callable[[Settings, int], Program]
) -> float:
    """Measured on one device, compile time apart: for estimates."""
    steps = 300
    config = dataclasses.replace(config, evaluate_every=steps)
    with folder.precision(config), contextlib.ExitStack() as stack:
        program = program_of(config, lanes)
        state = program.place(program.fresh([config] * lanes))
        stack.enter_context(program.host_errors())
        state, _ = program.advance(state, config.batch_size, learn=False)
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            state, metrics = program.advance(state, steps, learn=True)
            jax.block_until_ready(metrics)
            times.append(time.perf_counter() - begin)
    return min(times[1:]) / (steps * lanes)


def line(points: Sequence[tuple[float, float]], at: float) -> float:
    """Seconds at so many FLOPs, on the line through the measured ends, never below the first."""
    (x0, y0), (x1, y1) = points[0], points[-1]
    slope = 0.0 if x1 == x0 else (y1 - y0) / (x1 - x0)
    return max(y0 + slope * (at - x0), min(y0, y1))
