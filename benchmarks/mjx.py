"""MuJoCo in JAX beside Gymnasium's: one step from the same states, and steps per second.

    python benchmarks/mjx.py                                   # three walkers, 2000 states each
    python benchmarks/mjx.py HalfCheetah-v5 --lanes 1 1024     # on the device that JAX finds

States are those of Gymnasium's environment under random actions. Differences are absolute, in
float32, the largest and the median over states (over a state's entries: the largest). Needs the
extra `mjx`.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from omd import envs
from omd.envs import from_mjx


def rollout(name: str, count: int) -> tuple[from_mjx.State, np.ndarray, dict[str, np.ndarray]]:
    """States, the actions taken there and what Gymnasium made of them."""
    env: Any = gymnasium.make(name)
    base, rng = env.unwrapped, np.random.default_rng(0)
    states, actions, rows = [], [], []
    env.reset(seed=0)
    for _ in range(count):
        data = base.data
        states.append((data.qpos.copy(), data.qvel.copy(), data.qacc_warmstart.copy()))
        actions.append(rng.uniform(base.action_space.low, base.action_space.high))
        observation, reward, terminated, truncated, _ = env.step(actions[-1])
        rows.append((observation, reward, terminated))
        if terminated or truncated:
            env.reset()
    arrays = [jnp.asarray(np.stack(x), jnp.float32) for x in zip(*states, strict=True)]
    state = from_mjx.State(*arrays, jnp.zeros(count, jnp.int32))
    names = ("observation", "reward", "terminated")
    results = {
        key: np.stack(column) for key, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    return state, np.stack(actions), results


def compare(name: str, count: int, repeats: list[int]) -> None:
    state, actions, expected = rollout(name, count)
    env = envs.make(f"mjx:{name}", lanes=count)
    keys = jax.random.split(jax.random.key(0), count)
    step = jax.jit(env.step)
    start = time.perf_counter()
    _, seen = jax.block_until_ready(step(state, jnp.asarray(actions, jnp.float32), keys))
    first = time.perf_counter() - start
    print(
        f"\n{name}, {count} states, {int(expected['terminated'].sum())} ends; first {first:.0f} s"
    )
    for key, ours in (("observation", seen.next_observation), ("reward", seen.reward)):
        gap = np.abs(np.asarray(ours, np.float64) - expected[key]).reshape(count, -1).max(axis=-1)
        size = np.abs(expected[key]).max()
        print(f"  {key:12s} max {gap.max():.1e}  median {np.median(gap):.1e}  (up to {size:.1f})")
    same = int((np.asarray(seen.terminated) == expected["terminated"]).sum())
    print(f"  terminated   {same} of {count} alike")
    for lanes in repeats:
        cut = jax.tree.map(lambda x, lanes=lanes: jnp.resize(x, (lanes, *x.shape[1:])), state)
        action, key = jnp.zeros((lanes, actions.shape[1])), jax.random.split(keys[0], lanes)
        run = envs.make(f"mjx:{name}", lanes=lanes)
        step = jax.jit(run.step)
        cut, _ = jax.block_until_ready(step(cut, action, key))
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < 3:
            cut, _ = jax.block_until_ready(step(cut, action, key))
            steps += lanes
        print(f"  {lanes:5d} lanes  {steps / (time.perf_counter() - start):9.0f} lane-steps/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=from_mjx.ids())
    parser.add_argument("--states", type=int, default=2000)
    parser.add_argument("--lanes", type=int, nargs="*", default=[])
    options = parser.parse_args()
    print(f"JAX {jax.__version__} on {jax.devices()[0].device_kind}")
    for name in options.names:
        compare(name, options.states, options.lanes)


if __name__ == "__main__":
    main()
