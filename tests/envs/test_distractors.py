"""Distractors: their distribution, when they are fresh, and that their keys are enough."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pytest

import omd
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


@pytest.mark.as_shipped  # bits of two programs
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


@pytest.mark.parametrize(
    ("env_id", "kind"), [("CartPole-v1", "linear"), ("Pendulum-v1", "controlled")]
)
def test_structured_distractors_follow_their_dynamics(unroll: Any, kind: str, env_id: str) -> None:
    env = envs.make(env_id, lanes=4, distractors=3, distractor_kind=kind)
    _, steps = unroll(env, KEYS, 300)
    plain = unroll(envs.make(env_id, lanes=4), KEYS, 300)[1]
    size = plain.observation.shape[-1]
    own = steps.next_observation[..., :size]
    np.testing.assert_allclose(own, plain.next_observation, rtol=1e-4, atol=1e-5)
    x = np.asarray(steps.next_observation[..., size:])
    np.testing.assert_array_equal(steps.observation[..., size:], x)
    # least squares finds the rotation, in all entries at once: what is left is no more than noise
    before, after = (part.reshape(-1, 3) for part in (x[:-1], x[1:]))
    found = np.linalg.lstsq(before, after, rcond=None)[0].T
    lengths = np.linalg.svd(found)[1]
    np.testing.assert_allclose(lengths, 0.95, atol=0.06)
    left = after - before @ found.T
    share = {"linear": 1.0, "controlled": 0.5}[kind]
    assert left.var() > 0.9 * share * (1 - 0.95**2)


def test_controlled_distractors_know_the_action() -> None:
    env = envs.make("CartPole-v1", lanes=4, distractors=3, distractor_kind="controlled")
    state, _ = env.reset(KEYS)
    after = [env.step(state, np.full(4, a), KEYS)[1].observation[:, 4:] for a in (0, 1)]
    # the same noise: the difference is that of B's columns, the same in each lane
    gap = np.asarray(after[1] - after[0])
    assert np.abs(gap[0]).max() > 0.01
    np.testing.assert_allclose(gap, np.tile(gap[:1], (4, 1)), atol=1e-6)


def test_an_unknown_kind_of_distractors_is_one_sentence() -> None:
    with pytest.raises(omd.InputError, match=r"unknown kind of distractors 'noisy'.*noise"):
        envs.make("CartPole-v1", lanes=1, distractors=3, distractor_kind="noisy")
    with pytest.raises(omd.InputError, match=r"distractor_kind 'noisy'.*noise"):
        omd.Config(distractors=3, distractor_kind="noisy")
