"""JAX environments, one lane vmapped over all."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import DTypeLike

from omd.envs.protocol import Draw, derive
from omd.envs.spaces import action_fields, kind
from omd.errors import InputError
from omd.parts import reason_of
from omd.types import EnvSpec, PyTree, Step


def failed(id: str, error: Exception) -> InputError:
    """The error for an environment whose library raises while it is built."""
    return InputError(f"environment {id!r} can't be built: {reason_of(error)}")


class JaxEnv:
    """An environment with gymnax' interface: its `step_env`, `reset_env` and `is_truncated`.

    Episodes restart here rather than in gymnax' own `step`: a step with key k that ends an
    episode goes on exactly as `reset` with key k would begin. Where gymnax' `step` carries
    book-keeping from one episode to the next (DeepSea's counters), it starts anew.
    """

    on_host = False

    def __init__(self, id: str, env: Any, params: Any, *, lanes: int, dtype: DTypeLike) -> None:
        """`id` is what the user wrote; raises `InputError` if the environment is unusable."""
        self.lanes = lanes
        self.dtype = np.dtype(dtype)
        self._env, self._params = env, params
        try:
            self._observation_space = env.observation_space(params)
            self._action_space = env.action_space(params)
        except Exception as error:
            raise failed(id, error) from error
        if kind(self._observation_space) not in ("Box", "Discrete"):
            raise InputError(
                f"environment {id!r} gives observations from {self._observation_space}: register "
                "it so that they come from a Box or a Discrete space"
            )
        actions = action_fields(id, self._action_space)
        observation = self._check_scannable(id)
        limit = getattr(self._params, "max_steps_in_episode", None)
        self.spec = EnvSpec(
            id=id,
            observation_size=observation.shape[0],
            max_episode_steps=None if limit is None else int(limit),
            **actions,
        )

    def reset(self, keys: Array) -> tuple[PyTree, Float[Array, "L obs"]]:
        """Begin an episode in each lane; one typed key a lane."""
        return jax.vmap(self._reset_lane)(keys)

    def step(self, state: PyTree, action: Array | np.ndarray, keys: Array) -> tuple[PyTree, Step]:
        """Advance all lanes; actions are int [L] or float [L, act] in the environment's range."""
        successor, next_observation, reward, terminated, truncated = jax.vmap(self._transition)(
            state, jnp.asarray(action), keys
        )
        ended = terminated | truncated

        def restart(kept: PyTree) -> PyTree:
            def choose(fresh: Array, old: Array) -> Array:
                return jnp.where(ended.reshape(-1, *[1] * (old.ndim - 1)), fresh, old)

            return jax.tree.map(choose, self.reset(keys), kept)

        # the draws of a new episode cost more than a step of most environments here
        state, observation = jax.lax.cond(
            jnp.any(ended), restart, lambda kept: kept, (successor, next_observation)
        )
        return state, Step(observation, next_observation, reward, terminated, truncated)

    def snapshot(self) -> dict[str, np.ndarray]:
        """Nothing: the pytree that `step` returns is the whole state."""
        return {}

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """The counterpart of `snapshot`; raises `InputError` for a host environment's."""
        if snapshot:
            raise InputError(
                f"the snapshot holds {sorted(snapshot)}, but {self.spec.id!r} runs in JAX and "
                "keeps nothing outside its state: resume with the environment that wrote it"
            )

    def divergences(self) -> dict[int, object]:
        """None: whether numbers in JAX stay finite is seen in the agent's."""
        return {}

    def close(self) -> None:
        """Nothing to release."""

    def _reset_lane(self, key: Array) -> tuple[PyTree, Float[Array, " obs"]]:
        observation, state = self._env.reset_env(derive(key, Draw.EPISODE), self._params)
        return self._canonical(state), self._vector(observation)

    def _transition(
        self, state: PyTree, action: Array, key: Array
    ) -> tuple[PyTree, Array, Array, Array, Array]:
        action = action.reshape(self._action_space.shape)
        observation, successor, reward, terminated, _ = self._env.step_env(
            derive(key, Draw.TRANSITION), state, action, self._params
        )
        return (
            self._canonical(successor),
            self._vector(observation),
            jnp.asarray(reward, self.dtype),
            jnp.asarray(terminated, bool),
            jnp.asarray(self._env.is_truncated(successor, self._params), bool),
        )

    def _canonical(self, state: PyTree) -> PyTree:
        """Floats in our dtype, integers in 32 bits: a scan's carry must not change its type."""

        def cast(leaf: Any) -> Array:
            leaf = jnp.asarray(leaf)
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf.astype(self.dtype)
            return leaf.astype(jnp.int32) if jnp.issubdtype(leaf.dtype, jnp.signedinteger) else leaf

        return jax.tree.map(cast, state)

    def _vector(self, observation: Any) -> Float[Array, " obs"]:
        if kind(self._observation_space) == "Discrete":
            return jax.nn.one_hot(observation, self._observation_space.n, dtype=self.dtype)
        return jnp.asarray(observation, self.dtype).reshape(-1)

    def _check_scannable(self, id: str) -> jax.ShapeDtypeStruct:
        """Shape of the observation, once a step is known to keep the types of the state."""
        space = self._action_space
        dtype = jnp.int32 if kind(space) == "Discrete" else self.dtype
        action = jax.ShapeDtypeStruct(space.shape, dtype)
        key = jax.eval_shape(jax.random.key, 0)
        try:
            state, observation = jax.eval_shape(self._reset_lane, key)
            successor = jax.eval_shape(self._transition, state, action, key)[0]
        except Exception as error:
            wide = isinstance(error, TypeError) and jax.config.read("jax_enable_x64")
            need = "needs JAX's 64-bit mode off" if wide else "can't be stepped"
            raise InputError(f"environment {id!r} {need}: {reason_of(error)}") from error
        if successor != state:
            raise InputError(
                f"environment {id!r} can't be scanned: a step turns its state {state} into "
                f"{successor}"
            )
        return observation
