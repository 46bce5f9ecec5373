"""Rollouts for every environment, and host environments that misbehave on purpose."""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd.types import Step


def random_actions(env: Any, keys: jax.Array) -> jax.Array:
    """Straight from the bits of the keys, which compiles much faster than another draw."""
    bits = jax.random.key_data(keys)[:, 0]
    if env.spec.num_actions is not None:
        return bits % env.spec.num_actions
    low, high = jnp.array(env.spec.action_low), jnp.array(env.spec.action_high)
    return low + (high - low) * (bits.astype(env.dtype) / 2.0**32)[:, None]


def step_keys(keys: jax.Array, index: jax.Array) -> jax.Array:
    return jax.vmap(lambda key: jax.random.fold_in(key, index))(keys)


class Unroll:
    """`unroll(env, keys, steps)`: random steps from a reset on; `state` and `start` go on instead.

    One compiled scan, kept for the next call with the same environment. Step [T, L, ...].
    """

    def __init__(self) -> None:
        self.compiled: dict[Any, Any] = {}

    def __call__(
        self, env: Any, keys: jax.Array, steps: int, state: Any = None, start: int = 0
    ) -> tuple[Any, Step]:
        def scan(state: Any, keys: jax.Array, start: jax.Array) -> tuple[Any, Step]:
            def body(state: Any, index: jax.Array) -> tuple[Any, Step]:
                now = step_keys(keys, index)
                return env.step(state, random_actions(env, now), now)

            return jax.lax.scan(body, state, start + jnp.arange(steps))

        run = self.compiled.setdefault((env, steps), jax.jit(scan))
        state = jax.jit(env.reset)(keys)[0] if state is None else state
        state, out = jax.block_until_ready(run(state, keys, jnp.int32(start)))
        return state, jax.tree.map(np.asarray, out)


@pytest.fixture(scope="session")
def unroll() -> Unroll:
    return Unroll()


class Walk(gymnasium.Env[np.ndarray, Any]):
    """A random walk with noise of its own; `behaviour` says how it misbehaves."""

    def __init__(self, behaviour: str = "", size: int = 3) -> None:
        self.observation_space: Any = gymnasium.spaces.Box(-np.inf, np.inf, (size, 2))
        self.action_space: Any = gymnasium.spaces.Discrete(2, start=5)
        self.behaviour = behaviour
        self.unseeded = np.random.default_rng()
        self.resets = 0
        if behaviour == "dict":
            self.observation_space = gymnasium.spaces.Dict({"a": self.observation_space})
        if behaviour == "unbounded":
            self.action_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
        if behaviour == "multi-discrete":
            self.action_space = gymnasium.spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.at = self.np_random.normal(size=self.observation_space.shape)
        self.time, self.resets = 0, self.resets + 1
        if self.behaviour == "remember":
            self.at += self.resets
        return self.at.copy(), {}

    def step(self, action: Any) -> Any:
        assert action in (5, 6)
        self.time += 1
        if self.behaviour == "raise" and self.time == 4:
            raise OverflowError("the floor is gone")
        self.at += self.np_random.normal(size=self.at.shape) + (action - 5.5)
        if self.behaviour == "unseeded":
            self.at += 1e-6 * self.unseeded.normal(size=self.at.shape)
        if self.behaviour == "nan":
            self.at[0, 1] = np.nan
        return self.at.copy(), self.at.sum(), bool(abs(self.at).max() > 4), False, {}


BEHAVIOURS = ("", "raise", "nan", "unseeded", "remember", "dict", "unbounded", "multi-discrete")


@pytest.fixture(scope="session", autouse=True)
def walks() -> None:
    """Registers `Walk-v0` and its misbehaving kin, such as `Walk-raise-v0`."""
    for behaviour in BEHAVIOURS:
        gymnasium.register(
            id=f"Walk-{behaviour}-v0" if behaviour else "Walk-v0",
            entry_point=Walk,
            kwargs={"behaviour": behaviour},
            max_episode_steps=7,
        )
