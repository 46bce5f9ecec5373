"""Gymnasium's planar MuJoCo walkers in JAX: simulated by MJX, with Gymnasium's own rewards."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from omd.envs.host import build
from omd.errors import InputError, install

_IDS = ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5"]


def ids() -> list[str]:
    """Ids of Gymnasium whose rewards, observations and ends are written here in JAX."""
    return list(_IDS)


def load(id: str, name: str, arguments: Mapping[str, Any]) -> tuple[Walker, Params]:
    """Environment and parameters for `JaxEnv`; `id` is what the user wrote, `arguments` go to
    `gymnasium.make`.

    Raises `InputError` where MuJoCo or MJX is missing.
    """
    original = build(id, name, None, arguments)
    try:
        # it prints which optional parts of it are absent
        with contextlib.redirect_stdout(io.StringIO()):
            from mujoco import mjx
    except ImportError as error:
        raise InputError(
            f"environment {id!r} needs a package that is missing: run `{install('mjx')}`"
        ) from error
    try:
        return Walker(mjx, original), Params(original.spec.max_episode_steps)
    finally:
        original.close()


class Params(NamedTuple):
    """What gymnax keeps outside an environment."""

    max_steps_in_episode: int


class State(NamedTuple):
    """What a step of the simulator depends on, and the steps since the episode began."""

    position: Float[Array, " nq"]
    velocity: Float[Array, " nv"]
    warm_start: Float[Array, " nv"]
    """Accelerations from which the solver of contacts sets out."""
    elapsed: Int[Array, ""]


class Walker:
    """HalfCheetah, Hopper or Walker2d with gymnax' interface; the original gives all constants.

    The reward is the forward velocity (metres a second), less the cost of the action, plus a
    bonus while the walker stands. HalfCheetah can't fall. A simulation that blows up gives NaN;
    MuJoCo would start it over instead.
    """

    def __init__(self, mjx: Any, original: Any) -> None:
        base = original.unwrapped
        self._mjx, self._base = mjx, base
        self._model, self._blank = mjx.put_model(base.model), mjx.make_data(base.model)
        self._falls = hasattr(base, "_healthy_z_range")

    def observation_space(self, params: Params) -> Any:
        return self._base.observation_space

    def action_space(self, params: Params) -> Any:
        return self._base.action_space

    def reset_env(self, key: Array, params: Params) -> tuple[Array, State]:
        """Uniform noise around the resting state; HalfCheetah's velocities are normal."""
        base, scale = self._base, self._base._reset_noise_scale
        keys = jax.random.split(key)
        draw = jax.random.uniform(keys[0], base.init_qpos.shape, minval=-1.0)
        position = base.init_qpos + scale * draw
        shape = base.init_qvel.shape
        if self._falls:
            draw = jax.random.uniform(keys[1], shape, minval=-1.0)
        else:
            draw = jax.random.normal(keys[1], shape)
        velocity = base.init_qvel + scale * draw
        state = State(position, velocity, jnp.zeros(shape), jnp.int32(0))
        return self.observe(state), state

    def step_env(
        self, key: Array, state: State, action: Float[Array, " nu"], params: Params
    ) -> tuple[Array, State, Array, Array, dict]:
        """(observation, successor, reward, terminated, {}) after `frame_skip` substeps."""
        data = self._blank.replace(
            qpos=state.position,
            qvel=state.velocity,
            qacc_warmstart=state.warm_start,
            ctrl=action,
        )
        data = jax.lax.fori_loop(
            0, self._base.frame_skip, lambda _, data: self._mjx.step(self._model, data), data
        )
        successor = State(data.qpos, data.qvel, data.qacc_warmstart, state.elapsed + 1)
        reward, terminated = self.outcome(state, action, successor)
        return self.observe(successor), successor, reward, terminated, {}

    def outcome(
        self, state: State, action: Float[Array, " nu"], successor: State
    ) -> tuple[Float[Array, ""], Bool[Array, ""]]:
        """(reward, terminated) of a step."""
        base = self._base
        speed = (successor.position[0] - state.position[0]) / base.dt
        reward = base._forward_reward_weight * speed
        reward -= base._ctrl_cost_weight * jnp.sum(action**2)
        if not self._falls:
            return reward, jnp.bool_(False)
        stands = self._stands(successor)
        return reward + base._healthy_reward * stands, ~stands

    def is_truncated(self, state: State, params: Params) -> Bool[Array, ""]:
        return state.elapsed >= params.max_steps_in_episode

    def observe(self, state: State) -> Float[Array, " obs"]:
        reach = 10.0 if self._falls else math.inf
        return jnp.concatenate([state.position[1:], state.velocity.clip(-reach, reach)])

    def _stands(self, state: State) -> Bool[Array, ""]:
        height, angle = state.position[1], state.position[2]
        rest = jnp.concatenate([state.position[2:], state.velocity])
        limits = (
            (height, self._base._healthy_z_range),
            (angle, self._base._healthy_angle_range),
            (rest, getattr(self._base, "_healthy_state_range", (-math.inf, math.inf))),
        )
        inside = [((low < x) & (x < high)).all() for x, (low, high) in limits]
        return inside[0] & inside[1] & inside[2]
