"""What plain matrix products reach on this machine, for the shapes of one update.

    python benchmarks/roofline.py

Prints GFLOP/s of `x @ w` in float32, one product after another on one thread, compile apart. The
weighted figure takes each shape as often as one OMD update on CartPole does (batch 256, 32 units,
two critics): that is what the update could reach if it were nothing but its products.
"""

from __future__ import annotations

import os
import time

os.environ.setdefault("NPROC", "1")

import jax
import jax.numpy as jnp

REPEATS = 300
# (m, k, n) and how often, counted in the update's compiled program (feature-major activations)
CARTPOLE = {
    (32, 32, 256): 20,
    (32, 256, 32): 6,
    (32, 4, 256): 9,
    (32, 6, 256): 2,
    (2, 32, 256): 10,
    (32, 2, 256): 6,
    (32, 256, 4): 4,
    (32, 256, 6): 2,
    (2, 256, 32): 4,
    (4, 32, 256): 2,
}


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


def reachable(shapes: dict[tuple[int, int, int], int] = CARTPOLE) -> tuple[float, float, float]:
    """GFLOP/s over the shapes' mix, GFLOP/s of the largest one, and FLOPs of the mix."""
    seconds = {shape: seconds_per_product(*shape) for shape in shapes}
    flops = {(m, k, n): 2 * m * k * n for m, k, n in shapes}
    work = sum(flops[s] * count for s, count in shapes.items())
    largest = max(shapes, key=lambda s: flops[s])
    mixed = work / sum(seconds[s] * count for s, count in shapes.items())
    return mixed / 1e9, flops[largest] / seconds[largest] / 1e9, work


if __name__ == "__main__":
    mixed, best, work = reachable()
    print(f"256×32×32 product: {best:.1f} GFLOP/s")
    print(f"mix of one update ({work / 1e6:.1f} MFLOP): {mixed:.1f} GFLOP/s")
