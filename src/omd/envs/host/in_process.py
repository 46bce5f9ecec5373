"""Lanes that step one after another in this process, arrays in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import DTypeLike

from omd.envs.host.records import Rows
from omd.envs.host.simulator import Divergence, Lane, release
from omd.envs.spaces import kind
from omd.errors import InputError


class Lanes:
    """`count` environments from lane number `first` on."""

    def __init__(
        self,
        build: Callable[[], Any],
        id: str,
        *,
        first: int,
        count: int,
        size: int,
        dtype: DTypeLike,
    ) -> None:
        """`build` makes an environment; `size` is the length of its flat observation."""
        self._id, self._first, self._dtype = id, first, np.dtype(dtype)
        self._lanes = [Lane(build, id, first + index, size, self._dtype) for index in range(count)]

    def reset(self, seeds: Int[np.ndarray, " L"]) -> Float[np.ndarray, "L obs"]:
        """Begin an episode in each lane."""
        for lane, seed in zip(self._lanes, seeds, strict=True):
            lane.reset(int(seed))
        return np.stack([lane.observation for lane in self._lanes])

    def step(
        self,
        lane: Int[np.ndarray, " n"],
        clock: Int[np.ndarray, " n"],
        seed: Int[np.ndarray, " n"],
        action: np.ndarray,
    ) -> Rows:
        """Advance n of the lanes: `lane` holds their indices, `clock` and `seed` what each one's
        `step` takes, `action` [n] or [n, act]."""
        lanes = [self._lanes[index] for index in lane]
        rows = [
            one.step(*given)
            for one, *given in zip(lanes, clock.tolist(), action, seed.tolist(), strict=True)
        ]
        columns: list[Any] = [[one.observation for one in lanes], *zip(*rows, strict=True)]
        types: list[Any] = [self._dtype, self._dtype, self._dtype, bool, bool]
        arrays = [np.array(column, dtype) for column, dtype in zip(columns, types, strict=True)]
        return Rows(np.array([one.clock for one in lanes], np.int32), *arrays)

    @property
    def failure(self) -> RuntimeError | None:
        """What an environment raised, if one did."""
        return next((lane.failure for lane in self._lanes if lane.failure), None)

    def divergences(self) -> dict[int, Divergence]:
        """By index, the lanes that have diverged since they were reset."""
        return {i: lane.divergence for i, lane in enumerate(self._lanes) if lane.divergence}

    def render(self) -> list[Any]:
        """What each lane's environment renders in its render mode."""
        return [lane.env.render() for lane in self._lanes]

    def close(self) -> None:
        """Close all environments."""
        for lane in self._lanes:
            release(lane.env, self._id)

    def snapshot(self) -> dict[str, np.ndarray]:
        """What brings the running episodes back; take it when no step is under way.

        clock [L], seed [L], elapsed [L], length [L], actions [sum of lengths, ...],
        observation [L, obs], diverged [L] (the step, or 0); where the simulator's state is known,
        also physics [L, n] and random [L, 6].
        """
        lanes = self._lanes
        actions = [action for lane in lanes for action in lane.actions]
        space = lanes[0].env.action_space
        discrete = kind(space) == "Discrete"
        shape = () if discrete else (int(np.prod(space.shape)),)
        snapshot = {
            "clock": np.array([lane.clock for lane in lanes], np.int64),
            "seed": np.array([lane.seed for lane in lanes], np.int64),
            "elapsed": np.array([lane.elapsed for lane in lanes], np.int64),
            "length": np.array([len(lane.actions) for lane in lanes], np.int64),
            "actions": np.array(actions, np.int64 if discrete else self._dtype).reshape(-1, *shape),
            "observation": np.stack([lane.observation for lane in lanes]),
            "diverged": np.array([d.step if (d := lane.divergence) else 0 for lane in lanes]),
        }
        if lanes[0].physics:
            physics: Any = [lane.physics for lane in lanes]
            snapshot["physics"] = np.stack([one.before for one in physics])
            snapshot["random"] = np.stack([one.random for one in physics])
        return snapshot

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Bring the episodes of a snapshot back: from the simulator's state, or by taking their
        actions again. Raises `InputError` if they come out otherwise."""
        for name, array in self.snapshot().items():
            saved = snapshot.get(name)
            varies = name == "actions"
            if saved is None or saved.shape[varies:] != array.shape[varies:]:
                found = "nothing" if saved is None else f"an array of shape {saved.shape}"
                raise InputError(
                    f"the snapshot holds {found} as {name!r} of environment {self._id!r} with "
                    f"{len(self._lanes)} lanes: resume with the environment that wrote it"
                )
        episodes = np.split(snapshot["actions"], np.cumsum(snapshot["length"])[:-1])
        for index, lane in enumerate(self._lanes):
            self._restore_lane(lane, index, episodes[index], snapshot)

    def _restore_lane(
        self, lane: Lane, index: int, actions: np.ndarray, snapshot: dict[str, np.ndarray]
    ) -> None:
        seed, clock, elapsed, diverged = (
            int(snapshot[name][index]) for name in ("seed", "clock", "elapsed", "diverged")
        )
        if seed < 0:
            return
        if diverged:
            lane.clock, lane.seed = clock, seed
            lane.observation = snapshot["observation"][index].copy()
            lane.divergence = Divergence(diverged, [], "before the state was restored")
            return
        if lane.physics:
            before, random = snapshot["physics"][index], snapshot["random"][index]
            lane.go_on(seed, actions, clock, elapsed, before, random)
            way = "was brought back to the simulator's state"
        else:
            lane.replay(seed, actions, clock)
            way = f"took its {len(actions)} actions again from seed {seed}"
        if not np.array_equal(lane.observation, snapshot["observation"][index]):
            raise InputError(
                f"environment {self._id!r} came to another observation when lane "
                f"{self._first + index} {way}: "
                "its runs can't be resumed unless reset(seed=...) seeds all that is random in it"
            )
