"""Distractors: their distribution, when they are fresh, and that their keys are enough."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pytest

from omd import envs

KEYS = jax.random.split(jax.random.key(7), 4)
SIZE = 16
noise = jax.jit(functools.partial(envs.noise, size=SIZE, dtype=np.float32), static_argnames="draw")


@pytest.fixture(scope="module")
def steps(unroll: Any) -> Any:
    """[T, L, ...] random steps in four lanes, and those without distractors."""
    env = envs.make("gymnasium:CartPole-v1", lanes=4, distractors=SIZE)
    plain = envs.make("gymnasium:CartPole-v1", lanes=4)
    with_noise = unroll(env, KEYS, 500)[1]
    without = unroll(plain, KEYS, 500)[1]
    return with_noise, without


def test_the_environment_itself_is_untouched(steps: Any) -> None:
    noisy, plain = steps
    np.testing.assert_array_equal(noisy.observation[..., :4], plain.observation)
    np.testing.assert_array_equal(noisy.next_observation[..., :4], plain.next_observation)
    for name in ("reward", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(noisy, name), getattr(plain, name))


def test_noise_is_the_same_in_both_observations_of_a_step(steps: Any) -> None:
    noisy, _ = steps
    assert (noisy.terminated | noisy.truncated).sum() > 50
    np.testing.assert_array_equal(noisy.observation[..., 4:], noisy.next_observation[..., 4:])


def test_noise_is_standard_normal_and_fresh(steps: Any) -> None:
    noisy, _ = steps
    drawn = noisy.next_observation[..., 4:]  # [T, L, SIZE]
    count = drawn.size
    assert abs(drawn.mean()) < 4 / np.sqrt(count)
    assert abs(drawn.var() - 1) < 4 * np.sqrt(2 / count)
    assert np.unique(drawn).size > 0.99 * count  # float32 has room for a few coincidences only
    for lag in (1, 2):
        correlation = np.mean(drawn[lag:] * drawn[:-lag])
        assert abs(correlation) < 4 / np.sqrt(count)


def test_noise_can_be_drawn_again_from_its_key(steps: Any) -> None:
    noisy, _ = steps
    for t in (0, 17):
        keys = jax.vmap(lambda k: jax.random.fold_in(k, t))(KEYS)  # noqa: B023
        after = noise(keys, draw=envs.Draw.NOISE)
        np.testing.assert_array_equal(after, noisy.next_observation[t, :, 4:])


def test_first_observation_carries_noise() -> None:
    env = envs.make("CartPole-v1", lanes=4, distractors=SIZE)
    _, observation = jax.jit(env.reset)(KEYS)
    assert observation.shape == (4, 4 + SIZE) == (4, env.spec.observation_size)
    onward = noise(KEYS, draw=envs.Draw.EPISODE_NOISE)
    np.testing.assert_array_equal(observation[:, 4:], onward)


def test_noise_of_a_lane_does_not_depend_on_the_others(unroll: Any) -> None:
    four, one = (envs.make("Walk-v0", lanes=n, distractors=SIZE) for n in (4, 1))
    among = unroll(four, KEYS, 100)[1]
    alone = unroll(one, KEYS[2:3], 100)[1]
    np.testing.assert_array_equal(among.observation[:, 2:3], alone.observation)
