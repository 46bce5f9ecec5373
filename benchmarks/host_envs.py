"""Gymnasium environments on the host: all lanes in one call, against one after another.

    python benchmarks/host_envs.py [ID ...]

For each environment and number of lanes: steps per second of a loop over Gymnasium's own
environments, and the speed relative to that of the same lanes stepped in this process, by threads
and by worker processes (`omd.envs.host`), and by either from inside a compiled scan, which adds
the callback. The fastest of several repetitions; starting processes and compiling are outside.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from omd import envs
from omd.envs import host
from omd.runs.provenance import made_with

CORES = len(os.sched_getaffinity(0))
LANES = (1, 4, 16, 40)
SECONDS = 0.5
ROUNDS = 15
SCANNED = 50
WAYS = {"here": 0, "workers": CORES}
"""Processes; what `envs.make` takes by itself is one of these."""


def fastest(ways: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds of one call of each: taken in turns, since a machine's speed drifts, the least of the
    means of short runs."""
    counts, best = {}, dict.fromkeys(ways, float("inf"))
    for name, call in ways.items():
        call()
        begin = time.perf_counter()
        call()
        counts[name] = max(1, int(SECONDS / ROUNDS / (time.perf_counter() - begin)))
    for _ in range(ROUNDS):
        for name, call in ways.items():
            begin = time.perf_counter()
            for _ in range(counts[name]):
                call()
            best[name] = min(best[name], (time.perf_counter() - begin) / counts[name])
    return best


def measure(id: str, lanes: int) -> dict[str, float]:
    """Seconds that one step of all lanes takes, by way of stepping."""
    alone = [host.build(id, id) for _ in range(lanes)]
    for seed, env in enumerate(alone):
        env.reset(seed=seed)
        env.action_space.seed(seed)
    actions = np.stack([env.action_space.sample() for env in alone])

    def advance(env: Any, action: np.ndarray) -> None:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset(seed=0)

    def share(worker: int) -> None:
        for env, action in zip(alone[worker::CORES], actions[worker::CORES], strict=True):
            advance(env, action)

    def loop() -> None:
        for env, action in zip(alone, actions, strict=True):
            advance(env, action)

    pool = ThreadPoolExecutor(CORES)
    ways: dict[str, Callable[[], Any]] = {
        "loop": loop,
        "threads": lambda: list(pool.map(share, range(min(CORES, lanes)))),
    }
    keys = jax.random.split(jax.random.key(0), lanes)
    made = []
    for name, workers in WAYS.items():
        made += [envs.make(id, lanes=lanes, workers=workers) for _ in range(2)]
        ways[name] = _stepper(made[-2], actions)
        ways[f"scan, {name}"] = _scan(made[-1], keys, actions)
    seconds = fastest(ways)
    for env in made:
        env.close()
    pool.shutdown()
    return {name: s / (SCANNED if "scan" in name else 1) for name, s in seconds.items()}


def _stepper(env: Any, actions: np.ndarray) -> Callable[[], None]:
    """Steps of the environment on the host, without JAX."""
    host, clock = env._host, np.zeros(len(actions), np.int32)
    host.reset(clock)
    lanes = np.arange(len(actions), dtype=np.int32)

    def step() -> None:
        clock[:] = host.step(lanes, clock, lanes, actions).clock

    return step


def _scan(env: Any, keys: jax.Array, actions: np.ndarray) -> Callable[[], None]:
    """`SCANNED` steps in a compiled scan."""
    state, _ = env.reset(keys)

    @jax.jit
    def run(state: Any) -> Any:
        def body(state: Any, _: Any) -> Any:
            state, step = env.step(state, jnp.asarray(actions), keys)
            return state, step.reward

        return jax.lax.scan(body, state, None, SCANNED)

    def call() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(run(state))

    return call


def main() -> None:
    made = made_with()
    print(f"{made['processor']}, {CORES} cores, Python {made['python']}, {made['versions']}\n")
    for id in sys.argv[1:] or ["HalfCheetah-v5", "Ant-v5", "Pendulum-v1"]:
        print(id)
        for lanes in LANES:
            seconds = measure(id, lanes)
            loop = seconds.pop("loop")
            ratios = "  ".join(f"{name} {loop / s:.2f}" for name, s in seconds.items())
            overhead = 1e6 * (seconds["scan, here"] - seconds["here"])
            print(
                f"  {lanes:3d} lanes: loop {lanes / loop:8,.0f} steps/s ({1e6 * loop:6.0f} µs); "
                f"times as fast: {ratios}; a callback adds {overhead:.0f} µs",
                flush=True,
            )


if __name__ == "__main__":
    main()
