"""What plain matrix products reach on this machine, for the shapes of one update.

    python benchmarks/roofline.py

Prints GFLOP/s of `x @ w` in float32, one product after another on one thread, compile apart. The
weighted figure takes each shape as often as one OMD update on CartPole does (batch 256, 32 units,
two critics): that is what the update could reach if it were nothing but its products.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

os.environ.setdefault("NPROC", "1")

import jax
import jax.numpy as jnp

from omd.config import Config
from omd.runs.run import resolved
from omd.sweeps import cost

REPEATS, BEST_OF = 300, 5


def chain(m: int, k: int, n: int) -> Callable[[], Any]:
    """A compiled chain of products that depend on each other, to be run."""
    a, b = jnp.full((m, k), 0.01), jnp.full((k, n), 0.01)

    @jax.jit
    def products(a, b):
        def body(b, _):
            return b.at[0, 0].add(1e-6 * (a @ b)[0, 0]), None

        return jax.lax.scan(body, b, length=REPEATS)[0]

    return partial(products, a, b)


def _timed(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - begin


def reachable(products: Mapping[cost.Shape, int]) -> Iterator[tuple[float, float, float]]:
    """GFLOP/s over the mix of products, of the largest one, and the GFLOP of the mix; best of a
    few each time."""
    chains = {shape: chain(*shape) for shape in products}
    largest = max(products, key=lambda shape: cost.flops_of({shape: 1}))
    work, most = cost.flops_of(products) / 1e9, cost.flops_of({largest: 1}) / 1e9
    for call in chains.values():
        jax.block_until_ready(call())
    while True:
        seconds = {
            shape: min(_timed(call) for _ in range(BEST_OF)) / REPEATS
            for shape, call in chains.items()
        }
        mixed = work / sum(seconds[shape] * count for shape, count in products.items())
        yield mixed, most / seconds[largest], work


if __name__ == "__main__":
    mixed, best, work = next(reachable(cost.products_of(resolved(Config()))))
    print(f"256×32×32 product: {best:.1f} GFLOP/s")
    print(f"mix of one update ({1e3 * work:.1f} MFLOP): {mixed:.1f} GFLOP/s")
