"""Distractors: dimensions of the observation that are noise (section 7, appendix F)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from omd.envs.protocol import Draw, Env, derive
from omd.types import PyTree, Step


def noise(keys: Array, draw: Draw, size: int, dtype: DTypeLike) -> Float[Array, "L size"]:
    """Standard normal distractors of each lane, from the key of its step or reset.

    A function of the key alone, so that whoever keeps the key need not keep the numbers. For a
    step with key k, `Draw.NOISE` gives those of both its observations; for `reset` with k,
    `Draw.EPISODE_NOISE`.
    """
    return jax.vmap(lambda key: jax.random.normal(derive(key, draw), (size,), dtype))(keys)


class DistractedEnv:
    """An environment with `size` distractors after its own observation, fresh at every step.

    Both observations of a step have the same ones, also where one ends an episode and the other
    begins the next: no transition holds both, and a replay buffer can store each draw once.
    """

    def __init__(self, env: Env, size: int) -> None:
        self._env = env
        self._size = size
        self.lanes = env.lanes
        self.dtype = env.dtype
        self.on_host = env.on_host
        self.spec = dataclasses.replace(
            env.spec, observation_size=env.spec.observation_size + size, distractors=size
        )

    def reset(self, keys: Array) -> tuple[PyTree, Float[Array, "L obs"]]:
        """Begin an episode in each lane; one typed key a lane."""
        state, observation = self._env.reset(keys)
        return state, self._append(observation, self._noise(keys, Draw.EPISODE_NOISE))

    def step(self, state: PyTree, action: Array, keys: Array) -> tuple[PyTree, Step]:
        """Advance all lanes."""
        state, step = self._env.step(state, action, keys)
        drawn = self._noise(keys, Draw.NOISE)
        return state, step._replace(
            observation=self._append(step.observation, drawn),
            next_observation=self._append(step.next_observation, drawn),
        )

    def snapshot(self) -> dict[str, np.ndarray]:
        """The environment's own: the noise has no state."""
        return self._env.snapshot()

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """The counterpart of `snapshot`."""
        self._env.restore(snapshot)

    def divergences(self) -> Mapping[int, object]:
        """The environment's own."""
        return self._env.divergences()

    @property
    def unwrapped(self) -> Env:
        """The environment inside."""
        return self._env

    def close(self) -> None:
        """Release what the environment holds."""
        self._env.close()

    def _noise(self, keys: Array, draw: Draw) -> Float[Array, "L size"]:
        return noise(keys, draw, self._size, self.dtype)

    @staticmethod
    def _append(observation: Array, distractors: Array) -> Float[Array, "L obs"]:
        return jnp.concatenate([observation, distractors], axis=-1)
