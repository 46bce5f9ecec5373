"""Host environments: anything registered with Gymnasium, all lanes in one callback."""

from __future__ import annotations

import contextlib
import functools
import numbers
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import DTypeLike

from omd.envs.host import (
    Crew,
    Divergence,
    Lanes,
    action_fields,
    build,
    observation_size,
    release,
    workers_for,
)
from omd.envs.host_call import call_host, host_errors, varying_as
from omd.envs.protocol import Draw, derive
from omd.errors import InputError
from omd.parts import reason_of
from omd.types import EnvSpec, Step


def ids() -> list[str]:
    """Ids that Gymnasium knows, those that a user registered included."""
    import gymnasium

    return list(gymnasium.registry)


def registered(id: str) -> Any:
    """Gymnasium's record of an id, or None."""
    import gymnasium

    return gymnasium.registry.get(id)


@contextlib.contextmanager
def _readable(id: str) -> Iterator[None]:
    """What an environment has in other forms than Gymnasium's is told in one sentence."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"environment {id!r} isn't as gymnasium.Env asks, {reason_of(error)}: mend it"
        ) from error


MOST_FRAMES = 1000
"""Pictures a second."""


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
        self,
        id: str,
        name: Any,
        arguments: Mapping[str, Any] | None = None,
        *,
        lanes: int,
        dtype: DTypeLike,
        render_mode: str | None = None,
        workers: int | None = None,
    ) -> None:
        """`name` is Gymnasium's id, or a class or function that makes an environment; it is made
        with `arguments`. `id` is what the user wrote. Raises `InputError` if unusable."""
        self.lanes = lanes
        self.dtype = np.dtype(dtype)
        make = functools.partial(build, id, name, render_mode, arguments)
        env = make()
        with _readable(id):
            size = observation_size(id, env.observation_space)
            self.spec = EnvSpec(
                id=id,
                observation_size=size,
                max_episode_steps=env.spec.max_episode_steps if env.spec else None,
                **action_fields(id, env.action_space),
            )
            self._rate = dict(env.metadata or {}).get("render_fps")
            discrete = self.spec.num_actions is not None
            self._action_dtype = np.dtype(np.int32 if discrete else dtype)
            count, spec = (0, "") if render_mode else workers_for(env, lanes, workers)
        release(env, id)
        self._host: Lanes | Crew
        if count:
            self._host = Crew(
                spec,
                id,
                count=lanes,
                size=size,
                dtype=dtype,
                action_shape=() if self.spec.action_size is None else (self.spec.action_size,),
                action_dtype=np.dtype(self._action_dtype),
                workers=count,
            )
        else:
            with _readable(id):
                self._host = Lanes(make, id, first=0, count=lanes, size=size, dtype=dtype)

    @property
    def frames_per_second(self) -> float:
        """Of the environment's renderer, 30 where it doesn't say; raises `InputError` for what is
        no rate."""
        rate = 30 if self._rate is None else self._rate
        number = isinstance(rate, numbers.Real) and not isinstance(rate, bool)
        if not number or not 0 < rate <= MOST_FRAMES:
            raise InputError(
                f"environment {self.spec.id!r} has render_fps {rate!r} in its metadata: give a "
                f"number above 0 and up to {MOST_FRAMES}"
            )
        return float(rate)

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

    def step(
        self, state: HostState, action: Array | np.ndarray, keys: Array
    ) -> tuple[HostState, Step]:
        """Advance the lanes in `state`; actions are int [L] or float [L, act] in range.

        Under `jax.shard_map` each device steps the lanes that it holds.
        """
        clock = jax.ShapeDtypeStruct(state.clock.shape, jnp.int32)
        shapes = clock, self._step_shape(*clock.shape)
        whole = jnp.stack([*state, _seeds(keys)], axis=1)
        taken = jnp.asarray(action, self._action_dtype)
        results = call_host(self._host_step, shapes, whole, taken)
        clock, step = jax.tree.map(lambda result: varying_as(state.lane, result), results)
        return HostState(state.lane, clock), step

    def snapshot(self) -> dict[str, np.ndarray]:
        """What brings the running episodes back; take it when no computation is under way.

        The simulator's state where it can be had (Gymnasium's MuJoCo environments), else the
        episode's seed and actions.
        """
        return self._host.snapshot()

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Bring the episodes of a snapshot back; raises `InputError` if they come out otherwise."""
        with host_errors(self):
            self._host.restore(snapshot)

    @property
    def failure(self) -> RuntimeError | None:
        """What an environment raised, if one did."""
        return self._host.failure

    def divergences(self) -> dict[int, Divergence]:
        """By lane, those that have diverged since `reset`; call it when no computation is under
        way. Such a lane gives NaN and terminates at each step, the others go on."""
        return self._host.divergences()

    def render(self) -> list[Any]:
        """What each lane's environment renders in its render mode."""
        return self._host.render()

    def close(self) -> None:
        """Close all environments."""
        self._host.close()

    def _step_shape(self, lanes: int) -> Step:
        observation: Any = jax.ShapeDtypeStruct((lanes, self.spec.observation_size), self.dtype)
        reward: Any = jax.ShapeDtypeStruct((lanes,), self.dtype)
        flag: Any = jax.ShapeDtypeStruct((lanes,), jnp.bool_)
        return Step(observation, observation, reward, flag, flag)

    def _host_reset(self, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(self.lanes, np.int32), self._host.reset(seeds)

    def _host_step(
        self, whole: Int[np.ndarray, "L 3"], actions: np.ndarray
    ) -> tuple[np.ndarray, Step]:
        lane, clock, seed = whole.T
        clock, *rows = self._host.step(lane, clock, seed, actions)
        columns: Any = rows
        return clock, Step(*columns)


def _seeds(keys: Array) -> Int[Array, " L"]:
    """Seeds of the episodes that begin with these keys: 31 bits, which every generator takes."""
    bits = jax.vmap(lambda key: jax.random.bits(derive(key, Draw.EPISODE), (), jnp.uint32))(keys)
    return (bits >> 1).astype(jnp.int32)
