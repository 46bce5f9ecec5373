"""What plain matrix products reach on this machine, for the shapes of one update.

    python benchmarks/roofline.py

Prints GFLOP/s of `x @ w` in float32, one product after another on one thread, compile apart. The
weighted figure takes each shape as often as one OMD update on CartPole does (batch 256, 32 units,
two critics): that is what the update could reach if it were nothing but its products.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

os.environ.setdefault("NPROC", "1")

import jax
import jax.numpy as jnp

from omd.config import Config
from omd.training.sweep import cost

REPEATS = 300


def seconds_per_product(m: int, k: int, n: int) -> float:
    """Best of ten timings of a scan of products that depend on each other."""
    a, b = jnp.full((m, k), 0.01), jnp.full((k, n), 0.01)

    @jax.jit
    def chain(a, b):
        def body(b, _):
            return b.at[0, 0].add(1e-6 * (a @ b)[0, 0]), None

        return jax.lax.scan(body, b, length=REPEATS)[0]

    jax.block_until_ready(chain(a, b))
    return min(_timed(lambda: chain(a, b)) for _ in range(10)) / REPEATS


def _timed(call) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - begin


def reachable(products: Mapping[cost.Shape, int]) -> tuple[float, float]:
    """GFLOP/s over the mix of products, and of the largest one."""
    seconds = {shape: seconds_per_product(*shape) for shape in products}
    largest = max(products, key=lambda shape: cost.flops_of({shape: 1}))
    mixed = cost.flops_of(products) / sum(seconds[s] * count for s, count in products.items())
    return mixed / 1e9, cost.flops_of({largest: 1}) / seconds[largest] / 1e9


if __name__ == "__main__":
    products = cost.products_of(Config())
    mixed, best = reachable(products)
    print(f"256×32×32 product: {best:.1f} GFLOP/s")
    print(f"mix of one update ({cost.flops_of(products) / 1e6:.1f} MFLOP): {mixed:.1f} GFLOP/s")
