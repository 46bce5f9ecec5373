"""JAX environments: beside Gymnasium's, alone and among others."""

from __future__ import annotations

import functools
import operator
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import envs
from omd.errors import InputError

# what Gymnasium calls `state`, in its order, as fields of gymnax' state
FIELDS = {
    "CartPole-v1": ("x", "x_dot", "theta", "theta_dot"),
    "Acrobot-v1": ("joint_angle1", "joint_angle2", "velocity_1", "velocity_2"),
    "MountainCar-v0": ("position", "velocity"),
    "Pendulum-v1": ("theta", "theta_dot"),
}


@functools.cache
def compiled(id: str, dtype: Any) -> tuple[Any, Any]:
    """Reset, and step with an action and the number of the step, of one lane."""
    env = envs.make(id, lanes=1, dtype=dtype)
    key = jax.random.key(1)
    step = jax.jit(lambda s, a, i: env.step(s, a[None], jax.random.fold_in(key, i)[None]))
    return jax.jit(lambda: env.reset(key[None])), step


def beside_gymnasium(id: str, steps: int, dtype: Any, policy: Any) -> dict[str, Any]:
    """Step ours and Gymnasium's from the same state: largest differences and the ends seen."""
    (reset, step), theirs = compiled(id, dtype), gymnasium.make(id)
    random = np.random.default_rng(0)
    state, observation = reset()
    theirs.reset(seed=0)
    seen: dict[str, Any] = {"observation": 0.0, "reward": 0.0, "ends": []}
    for i in range(steps):
        held: Any = theirs.unwrapped
        host = jax.tree.map(np.asarray, state)
        held.state = np.array([getattr(host, f)[0] for f in FIELDS[id]], np.float64)
        action = policy(np.asarray(observation)[0], random)
        state, ours = step(state, np.asarray(action), i)
        successor, reward, terminated, truncated, _ = theirs.step(action)
        assert (bool(ours.terminated[0]), bool(ours.truncated[0])) == (terminated, truncated), i
        difference = np.abs(np.asarray(ours.next_observation[0], np.float64) - successor).max()
        seen["observation"] = max(seen["observation"], difference)
        seen["reward"] = max(seen["reward"], abs(float(ours.reward[0]) - float(reward)))
        if terminated or truncated:
            theirs.reset()
            seen["ends"].append((i, terminated, truncated, float(reward)))
        observation = ours.observation
    return seen


def uniform(id: str) -> Any:
    space: Any = gymnasium.make(id).action_space
    if hasattr(space, "n"):
        return lambda _, random: int(random.integers(space.n))
    return lambda _, random: random.uniform(space.low, space.high).astype(np.float32)


@pytest.mark.parametrize("wide", [False, True])
def test_cartpole_beside_gymnasium(wide: bool) -> None:
    with jax.enable_x64(wide):
        dtype = jnp.float64 if wide else jnp.float32
        seen = beside_gymnasium("CartPole-v1", 1000, dtype, uniform("CartPole-v1"))
    assert seen["observation"] < 1e-6
    assert seen["reward"] == 0
    assert len(seen["ends"]) > 20
    assert all(end[1:] == (True, False, 1.0) for end in seen["ends"])


def test_cartpole_is_truncated_at_step_500_beside_gymnasium() -> None:
    def balance(observation: np.ndarray, _: Any) -> int:
        return int(observation @ np.array([0.02, 0.2, 1.0, 0.5]) > 0)

    seen = beside_gymnasium("CartPole-v1", 1001, jnp.float32, balance)
    assert [end[:3] for end in seen["ends"]] == [(499, False, True), (999, False, True)]
    assert seen["observation"] < 1e-6


@pytest.mark.parametrize("id", ["Acrobot-v1", "MountainCar-v0", "Pendulum-v1"])
def test_classic_control_beside_gymnasium(id: str) -> None:
    with jax.enable_x64(True):
        seen = beside_gymnasium(id, 600, jnp.float64, uniform(id))
    assert seen["observation"] < 1e-6  # their observations are float32
    assert seen["reward"] < 1e-6
    assert any(truncated for _, _, truncated, _ in seen["ends"]) or id == "Acrobot-v1"


@pytest.mark.parametrize("id", ["CartPole-v1", "FrozenLake-misc"])
def test_a_lane_alone_is_the_lane_among_ten_bit_for_bit(id: str, unroll: Any) -> None:
    keys = jax.random.split(jax.random.key(5), 10)
    among = envs.make(id, lanes=10)
    steps = unroll(among, keys, 400)[1]
    assert steps.terminated.sum() > 10
    alone = unroll(envs.make(id, lanes=1), keys[4:5], 400)[1]
    for ten, one in zip(steps, alone, strict=True):
        np.testing.assert_array_equal(ten[:, 4:5], one)


def test_lanes_with_sines_agree_up_to_rounding() -> None:
    """XLA vectorises a sine differently for other numbers of lanes: an ulp in each step."""
    keys = jax.random.split(jax.random.key(5), 10)
    env = envs.make("Pendulum-v1", lanes=10)
    action = jnp.ones((10, 1))
    step = jax.jit(env.step)
    state, _ = jax.jit(env.reset)(keys)
    one = slice(4, 5)
    step_one = jax.jit(
        lambda s: env.step(jax.tree.map(operator.itemgetter(one), s), action[one], keys[one])
    )
    for _ in range(20):
        alone = step_one(state)[1]
        state, among = step(state, action, keys)
        np.testing.assert_allclose(alone.next_observation, among.next_observation[one], atol=2e-6)
        np.testing.assert_array_equal(alone.truncated, among.truncated[one])


def test_an_end_goes_on_as_reset_with_the_same_key_begins() -> None:
    env = envs.make("CartPole-v1", lanes=2)
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    state, _ = reset(jax.random.split(jax.random.key(0), 2))
    ends = 0
    for i in range(60):
        keys = jax.random.split(jax.random.key(i), 2)
        state, out = step(state, jnp.ones(2, int), keys)
        _, fresh = reset(keys)
        for lane in np.flatnonzero(out.terminated):
            ends += 1
            np.testing.assert_array_equal(out.observation[lane], fresh[lane])
            assert abs(out.next_observation[lane, 2]) > 12 * np.pi / 180
        for lane in np.flatnonzero(~out.terminated):
            np.testing.assert_array_equal(out.observation[lane], out.next_observation[lane])
    assert ends >= 8


def test_state_is_float64_when_asked() -> None:
    with jax.enable_x64(True):
        env = envs.make("Pendulum-v1", lanes=2, dtype=jnp.float64)
        keys = jax.random.split(jax.random.key(0), 2)
        state, observation = jax.jit(env.reset)(keys)
        after, step = jax.jit(env.step)(state, jnp.zeros((2, 1)), keys)
        assert observation.dtype == step.observation.dtype == step.reward.dtype == jnp.float64
        for leaf in jax.tree.leaves((state, after)):
            assert leaf.dtype in (jnp.float64, jnp.int32)
            assert leaf.shape[0] == 2
        # more digits than float32 has
        assert np.any(np.asarray(step.observation) != np.float32(step.observation))


def test_a_jax_environment_has_nothing_to_snapshot() -> None:
    env = envs.make("CartPole-v1", lanes=1)
    assert env.snapshot() == {}
    env.restore({})
    with pytest.raises(InputError, match="runs in JAX"):
        env.restore({"seed": np.zeros(1)})


def test_images_are_flattened() -> None:
    env = envs.make("Catch-bsuite", lanes=2)
    _, observation = jax.jit(env.reset)(jax.random.split(jax.random.key(0), 2))
    assert observation.shape == (2, 50) == (2, env.spec.observation_size)
    np.testing.assert_array_equal(observation.sum(-1), 2)  # the ball and the paddle
