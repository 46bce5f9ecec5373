"""Plain records that the rooms hand to each other."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float

__all__ = ["BatchedEnv", "EnvSpec", "Metrics", "PyTree", "Step", "Transition"]

PyTree = Any
Metrics = dict[str, Array]


class Transition(NamedTuple):
    """What the replay buffer stores; leaves may carry leading batch or lane axes."""

    observation: Float[Array, "... obs"]
    action: Array
    """int32 [...] for discrete actions, float [..., act] for continuous ones."""
    reward: Float[Array, " ..."]
    next_observation: Float[Array, "... obs"]
    """The true successor, before any reset."""
    terminated: Bool[Array, " ..."]
    """Bootstrapping stops here, and only here: a time limit is not a termination."""


class Step(NamedTuple):
    """One step of a batched environment; every leaf has the leading lane axis L."""

    observation: Float[Array, "L obs"]
    """The observation to go on from: that of the new episode where one ended."""
    next_observation: Float[Array, "L obs"]
    """The true successor, before any reset."""
    reward: Float[Array, " L"]
    terminated: Bool[Array, " L"]
    truncated: Bool[Array, " L"]


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """What an agent must know of an environment."""

    id: str
    observation_size: int
    num_actions: int | None
    """Number of discrete actions, or None where actions are continuous."""
    action_size: int | None = None
    """Dimension of a continuous action, or None where actions are discrete."""
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()
    max_episode_steps: int | None = None
    distractors: int = 0
    """Numbers at the end of an observation that are noise, the same in both observations of a
    step."""


@runtime_checkable
class BatchedEnv(Protocol):
    """All lanes step together. `keys` is a [L] array of typed JAX keys.

    `step` resets a lane by itself where its episode ended (same step), and may be called
    inside `jax.jit` and `jax.lax.scan`. `on_host` says that a Python callback runs in there.
    """

    spec: EnvSpec
    on_host: bool

    def reset(self, keys: Array) -> tuple[PyTree, Float[Array, "L obs"]]: ...

    def step(
        self, state: PyTree, action: Array | np.ndarray, keys: Array
    ) -> tuple[PyTree, Step]: ...
