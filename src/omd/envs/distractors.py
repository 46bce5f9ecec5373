"""Distractors: dimensions of the observation without use: noise (section 7, appendix F), or the
state of linear dynamics of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from omd.envs.protocol import Draw, Env, derive
from omd.errors import InputError
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

    def step(self, state: PyTree, action: Array | np.ndarray, keys: Array) -> tuple[PyTree, Step]:
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


DECAY = 0.95
"""Of linear distractors: the share that is left of each after a step, turned."""


MOST_LINEAR = 4000
"""Linear distractors: to draw their rotation takes about half a minute."""


class LinearEnv(DistractedEnv):
    """Distractors x that a model can predict: x' = ρ R x + √(1 − ρ²) e with ρ = `DECAY`, R a fixed
    rotation and e standard normal. x starts standard normal and stays so; episodes' ends don't
    touch it. The state is (the environment's own, x)."""

    def __init__(self, env: Env, size: int) -> None:
        super().__init__(env, size)
        if size > MOST_LINEAR:
            raise InputError(
                f"distractors is {size}, but those with dynamics of their own need a matrix of all "
                f"by all: give at most {MOST_LINEAR}, or distractor_kind 'noise'"
            )
        rng = np.random.default_rng(0)  # a property of the environment, like its physics
        rotation, triangle = np.linalg.qr(rng.standard_normal((size, size)))
        self._rotation = (rotation * np.sign(np.diag(triangle))).astype(self.dtype)
        inputs = env.spec.num_actions or env.spec.action_size or 1
        directions = rng.standard_normal((size, inputs))
        self._directions = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(
            self.dtype
        )

    def reset(self, keys: Array) -> tuple[PyTree, Float[Array, "L obs"]]:
        """Begin an episode in each lane; one typed key a lane."""
        state, observation = self._env.reset(keys)
        x = self._noise(keys, Draw.EPISODE_NOISE)
        return (state, x), self._append(observation, x)

    def step(self, state: PyTree, action: Array | np.ndarray, keys: Array) -> tuple[PyTree, Step]:
        """Advance all lanes."""
        own, x = state
        own, step = self._env.step(own, action, keys)
        driven = self._driven(action, self._noise(keys, Draw.NOISE))
        x = DECAY * x @ self._rotation.T + (1 - DECAY**2) ** 0.5 * driven
        return (own, x), step._replace(
            observation=self._append(step.observation, x),
            next_observation=self._append(step.next_observation, x),
        )

    def _driven(
        self, action: Array | np.ndarray, drawn: Float[Array, "L size"]
    ) -> Float[Array, "L size"]:
        """e, from the step's action and standard normal numbers."""
        return drawn


class ControlledEnv(LinearEnv):
    """Linear distractors that the agent's actions drive: e = (B u + n)/√2, n standard normal, u
    the action (one-hot; continuous ones in [−1, 1]), rows of B fixed, of length 1."""

    def _driven(
        self, action: Array | np.ndarray, drawn: Float[Array, "L size"]
    ) -> Float[Array, "L size"]:
        spec = self.spec
        if spec.num_actions is not None:
            u = jax.nn.one_hot(action, spec.num_actions, dtype=drawn.dtype)
        else:
            low, high = (np.asarray(b, drawn.dtype) for b in (spec.action_low, spec.action_high))
            u = (2 * action - low - high) / (high - low)
        return (u @ self._directions.T + drawn) / 2**0.5


KINDS = {"noise": DistractedEnv, "linear": LinearEnv, "controlled": ControlledEnv}
"""The setting `distractor_kind`."""
