"""One Gymnasium environment on the host, with what it takes to bring its state back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from omd.envs.spaces import kind
from omd.types import InputError


class Lane:
    """A Gymnasium environment that begins every episode from an explicit seed.

    An episode is then its seed and its actions, which is what a checkpoint needs to hold.
    Exceptions of the environment come out as a `RuntimeError` that names it, also kept in
    `failure`: compiled code hands on only their text.
    """

    def __init__(
        self, build: Callable[[], Any], id: str, index: int, size: int, dtype: np.dtype
    ) -> None:
        """`build` makes the environment; `size` is the length of its flat observation."""
        self.env = build()
        # a Box2D world that isn't new remembers its earlier episodes (Gymnasium's issue 728)
        worn = str(self.env.spec.entry_point).startswith("gymnasium.envs.box2d")
        self._rebuild = build if worn else None
        self.clock = 0
        """Steps since `reset`, over all episodes."""
        self.seed = -1
        """Of the running episode; −1 before the first."""
        self.actions: list[np.ndarray] = []
        """Taken in the running episode."""
        self.observation: Float[np.ndarray, " obs"] = np.zeros(size, dtype)
        """The one to go on from."""
        self.failure: RuntimeError | None = None
        self._name = f"environment {id!r}, lane {index}"

    def reset(self, seed: int) -> None:
        """Begin anew."""
        with self._named():
            self._begin(seed)
        self.clock = 0

    def step(
        self, clock: int, action: np.ndarray, seed: int
    ) -> tuple[Float[np.ndarray, " obs"], float, bool, bool]:
        """Successor, reward, terminated, truncated; `seed` begins the next episode if one ended.

        `clock` tells whether the caller's state is the latest.
        """
        with self._named():
            if clock != self.clock:
                raise ValueError(
                    f"stepped from its state at step {clock} when it had already reached step "
                    f"{self.clock}; a host environment can't go back, so step its latest state "
                    "or restore a snapshot"
                )
            reward, terminated, truncated = self._advance(action)
            successor = self.observation
            if terminated or truncated:
                self._begin(seed)
        self.clock += 1
        return successor, reward, terminated, truncated

    def replay(self, seed: int, actions: np.ndarray, clock: int) -> None:
        """Play the running episode of a snapshot again."""
        with self._named():
            self._begin(seed)
            for action in actions:
                self._advance(action)
        self.clock = clock

    def _begin(self, seed: int) -> None:
        if self._rebuild and self.seed >= 0:
            self.env.close()
            self.env = self._rebuild()
        self.seed, self.actions = seed, []
        self.observation = self._read(self.env.reset(seed=seed)[0])

    def _advance(self, action: np.ndarray) -> tuple[float, bool, bool]:
        space = self.env.action_space
        if kind(space) == "Discrete":
            command: Any = int(action) + int(space.start)
        else:
            command = np.array(action, space.dtype).reshape(space.shape)
        self.actions.append(np.array(action))  # the memory of a callback's arguments isn't ours
        observation, reward, terminated, truncated, _ = self.env.step(command)
        self.observation = self._read(observation)
        return float(reward), bool(terminated), bool(truncated)

    def _read(self, observation: Any) -> Float[np.ndarray, " obs"]:
        space, last = self.env.observation_space, self.observation
        if kind(space) != "Box":
            import gymnasium

            observation = gymnasium.spaces.flatten(space, observation)
        return np.array(observation, last.dtype).reshape(last.shape)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failure = RuntimeError(f"{self._name}: {type(error).__name__}: {error}")
            raise self.failure from error


def build(id: str, name: str, render_mode: str | None) -> Any:
    """`gymnasium.make(name)`; raises `InputError`, naming the extra where a package is missing."""
    import gymnasium

    options = {} if render_mode is None else {"render_mode": render_mode}
    try:
        return gymnasium.make(name, disable_env_checker=True, **options)
    except gymnasium.error.DependencyNotInstalled as error:
        extra = next((e for e in ("box2d", "mujoco") if f"[{e}]" in str(error)), None)
        remedy = f"run `pip install 'omd[{extra}]'`" if extra else str(error)
        raise InputError(f"environment {id!r} needs a package that is missing: {remedy}") from error
    except Exception as error:
        raise InputError(
            f"environment {id!r} can't be built: {type(error).__name__}: {error}"
        ) from error


def observation_size(id: str, space: Any) -> int:
    """Length of the flat observation; raises `InputError` for a Dict and the like."""
    if kind(space) not in ("Box", "Discrete", "MultiBinary", "MultiDiscrete"):
        raise InputError(
            f"environment {id!r} gives observations from {space}: wrap it with "
            "gymnasium.wrappers.FlattenObservation so that they are flat vectors"
        )
    import gymnasium

    return gymnasium.spaces.flatdim(space)
