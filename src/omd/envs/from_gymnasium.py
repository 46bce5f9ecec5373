"""Host environments: anything registered with Gymnasium, all lanes in one callback."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from omd.envs.callback import call_host, varying_as
from omd.envs.lane import Lane, build, observation_size
from omd.envs.protocol import Draw, derive
from omd.envs.spaces import action_fields
from omd.types import EnvSpec, InputError, Step


def ids() -> list[str]:
    """Ids that Gymnasium knows, those that a user registered included."""
    import gymnasium

    return list(gymnasium.registry)


class HostState(NamedTuple):
    """What of a host environment travels through compiled code; the rest stays in Python."""

    lane: Int[Array, " L"]
    """Which lane this is: a device that holds some of the lanes steps just these."""
    clock: Int[Array, " L"]
    """Steps since `reset`. Each callback thereby waits for the one before it, and a state that
    is not the latest is told apart: a host environment can't go back."""


class GymnasiumEnv:
    """Gymnasium environments, one a lane, restarted here at the end of an episode.

    The seed of an episode comes from the key of the step that ended the one before, or of
    `reset`, so that a step with key k goes on exactly as `reset` with key k would begin.
    """

    on_host = True

    def __init__(
        self, id: str, name: str, *, lanes: int, dtype: np.dtype, render_mode: str | None = None
    ) -> None:
        """`name` is Gymnasium's id, `id` what the user wrote; raises `InputError` if unusable."""
        self.lanes = lanes
        self.dtype = dtype
        make = functools.partial(build, id, name, render_mode)
        env = make()
        size = observation_size(id, env.observation_space)
        self.spec = EnvSpec(
            id=id,
            observation_size=size,
            max_episode_steps=env.spec.max_episode_steps,
            **action_fields(id, env.action_space),
        )
        env.close()
        self._lanes = [Lane(make, id, index, size, dtype) for index in range(lanes)]

    def reset(self, keys: Array) -> tuple[HostState, Float[Array, "L obs"]]:
        """Begin an episode in each lane; one typed key a lane.

        Only data order callbacks, and `keys` may not depend on earlier steps: reset in another
        call than those steps, after their results have arrived.
        """
        if keys.shape != (self.lanes,):
            raise InputError(
                f"environment {self.spec.id!r} was made with {self.lanes} lanes and reset with "
                f"keys of shape {keys.shape}: give one key a lane"
            )
        clock = jax.ShapeDtypeStruct((self.lanes,), jnp.int32)
        clock, observation = call_host(
            self._host_reset, (clock, self._step_shape(self.lanes).observation), _seeds(keys)
        )
        return HostState(jnp.arange(self.lanes, dtype=jnp.int32), clock), observation

    def step(self, state: HostState, action: Array, keys: Array) -> tuple[HostState, Step]:
        """Advance the lanes in `state`; actions are int [L] or float [L, act] in range.

        Under `jax.shard_map` each device steps the lanes that it holds.
        """
        clock = jax.ShapeDtypeStruct(state.clock.shape, jnp.int32)
        shapes = clock, self._step_shape(*clock.shape)
        action = action.astype(jnp.int32 if self.spec.num_actions is not None else self.dtype)
        whole = jnp.stack([*state, _seeds(keys)])  # each argument of a callback costs tens of µs
        results = call_host(self._host_step, shapes, whole, action)
        clock, step = jax.tree.map(lambda result: varying_as(state.lane, result), results)
        return HostState(state.lane, clock), step

    def snapshot(self) -> dict[str, np.ndarray]:
        """Seed and actions of the running episodes; take it when no computation is under way.

        clock [L], seed [L], length [L], actions [sum of lengths, ...], observation [L, obs].
        """
        actions = [action for lane in self._lanes for action in lane.actions]
        discrete = self.spec.num_actions is not None
        shape, dtype = ((), np.int64) if discrete else ((self.spec.action_size,), self.dtype)
        return {
            "clock": np.array([lane.clock for lane in self._lanes], np.int64),
            "seed": np.array([lane.seed for lane in self._lanes], np.int64),
            "length": np.array([len(lane.actions) for lane in self._lanes], np.int64),
            "actions": np.array(actions, dtype).reshape(len(actions), *shape),
            "observation": np.stack([lane.observation for lane in self._lanes]),
        }

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Play the episodes of a snapshot again; raises `InputError` if they come out otherwise."""
        for name, array in self.snapshot().items():
            saved = snapshot.get(name)
            varies = name == "actions"
            if saved is None or saved.shape[varies:] != array.shape[varies:]:
                found = "nothing" if saved is None else f"an array of shape {saved.shape}"
                raise InputError(
                    f"the snapshot holds {found} as {name!r} of environment {self.spec.id!r} with "
                    f"{self.lanes} lanes: resume with the environment that wrote it"
                )
        episodes = np.split(snapshot["actions"], np.cumsum(snapshot["length"])[:-1])
        for index, (lane, actions) in enumerate(zip(self._lanes, episodes, strict=True)):
            seed = int(snapshot["seed"][index])
            if seed < 0:
                continue
            lane.replay(seed, actions, int(snapshot["clock"][index]))
            if not np.array_equal(lane.observation, snapshot["observation"][index], equal_nan=True):
                raise InputError(
                    f"environment {self.spec.id!r} came to another observation when lane {index} "
                    f"took its {len(actions)} actions again from seed {seed}: its runs can't be "
                    "resumed unless reset(seed=...) seeds all that is random in it"
                )

    @property
    def failure(self) -> RuntimeError | None:
        """What an environment raised, if one did."""
        return next((lane.failure for lane in self._lanes if lane.failure), None)

    def render(self) -> list[Any]:
        """What each lane's environment renders in its render mode."""
        return [lane.env.render() for lane in self._lanes]

    def close(self) -> None:
        """Close all environments."""
        for lane in self._lanes:
            lane.env.close()

    def _step_shape(self, lanes: int) -> Step:
        observation: Any = jax.ShapeDtypeStruct((lanes, self.spec.observation_size), self.dtype)
        reward: Any = jax.ShapeDtypeStruct((lanes,), self.dtype)
        flag: Any = jax.ShapeDtypeStruct((lanes,), jnp.bool_)
        return Step(observation, observation, reward, flag, flag)

    def _host_reset(self, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        for lane, seed in zip(self._lanes, seeds, strict=True):
            lane.reset(int(seed))
        return np.zeros(self.lanes, np.int32), np.stack([lane.observation for lane in self._lanes])

    def _host_step(
        self, whole: Int[np.ndarray, "3 L"], actions: np.ndarray
    ) -> tuple[np.ndarray, Step]:
        indices, clocks, seeds = whole
        lanes = [self._lanes[index] for index in indices]
        rows = [
            lane.step(int(clock), action, int(seed))
            for lane, clock, action, seed in zip(lanes, clocks, actions, seeds, strict=True)
        ]
        columns: list[Any] = [[lane.observation for lane in lanes], *zip(*rows, strict=True)]
        dtypes: list[Any] = [self.dtype, self.dtype, self.dtype, bool, bool]
        arrays: list[Any] = [np.array(c, dtype) for c, dtype in zip(columns, dtypes, strict=True)]
        return np.array([lane.clock for lane in lanes], np.int32), Step(*arrays)


def _seeds(keys: Array) -> Int[Array, " L"]:
    """Seeds of the episodes that begin with these keys: 31 bits, which every generator takes."""
    bits = jax.vmap(lambda key: jax.random.bits(derive(key, Draw.EPISODE), (), jnp.uint32))(keys)
    return (bits >> 1).astype(jnp.int32)
