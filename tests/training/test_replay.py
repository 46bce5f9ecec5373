import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd.training import replay
from omd.types import EnvSpec, Transition


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def transition(i, action):
    return Transition(
        jnp.array([i, -i], float), action, jnp.array(10.0 * i), jnp.array([i + 1, 0.5]), i % 2 == 0
    )


def test_a_row_comes_back_as_it_went_in():
    spec = EnvSpec("probe", 2, 3)
    buffer = replay.empty(spec, 4, jnp.float64)
    for i in range(3):
        buffer = replay.add(buffer, transition(i, jnp.int32(i)))
    out = replay.sample(buffer, jnp.array([0, 1, 2, 3, 4], jnp.uint32), spec)
    np.testing.assert_array_equal(out.observation, [[0, 0], [1, -1], [2, -2], [0, 0], [1, -1]])
    np.testing.assert_array_equal(out.action, [0, 1, 2, 0, 1])
    assert out.action.dtype == jnp.int32
    np.testing.assert_array_equal(out.reward, [0, 10, 20, 0, 10])
    np.testing.assert_array_equal(out.next_observation[:3, 0], [1, 2, 3])
    np.testing.assert_array_equal(out.terminated, [True, False, True, True, False])


def test_the_oldest_transition_is_overwritten():
    spec = EnvSpec("probe", 2, 3)
    buffer = replay.empty(spec, 4, jnp.float64)
    for i in range(6):
        buffer = replay.add(buffer, transition(i, jnp.int32(0)))
    out = replay.sample(buffer, jnp.arange(4, dtype=jnp.uint32), spec)
    np.testing.assert_array_equal(out.reward, [40, 50, 20, 30])


def test_continuous_actions_keep_their_numbers():
    spec = EnvSpec("probe", 2, None, action_size=2, action_low=(-1, -1), action_high=(1, 1))
    buffer = replay.add(replay.empty(spec, 2, jnp.float64), transition(1, jnp.array([0.25, -0.75])))
    out = replay.sample(buffer, jnp.zeros(1, jnp.uint32), spec)
    np.testing.assert_array_equal(out.action, [[0.25, -0.75]])


def test_distractors_are_stored_once_and_come_back_as_they_went_in():
    noise, steps, capacity = 5, 11, 4
    spec = EnvSpec("probe", 2 + noise, 3, distractors=noise)
    draws = np.random.default_rng(0).normal(size=(steps + 1, noise))
    buffer = replay.empty(spec, capacity, jnp.float64)
    assert buffer.rows.size + buffer.distractors.size == (capacity + 1) * (2 * 2 + 3 + noise)
    for i in range(steps):
        plain = transition(i, jnp.int32(i % 3))
        buffer = replay.add(
            buffer,
            plain._replace(
                observation=jnp.concatenate([plain.observation, draws[i]]),
                next_observation=jnp.concatenate([plain.next_observation, draws[i + 1]]),
            ),
        )
        out = replay.sample(buffer, jnp.arange(capacity, dtype=jnp.uint32), spec)
        newest = range(max(0, i + 1 - capacity), i + 1)
        held = np.asarray(out.reward / 10).astype(int)
        assert set(held) == set(newest)
        np.testing.assert_array_equal(out.observation[:, 0], held)
        np.testing.assert_array_equal(out.observation[:, 2:], draws[held])
        np.testing.assert_array_equal(out.next_observation[:, 0], held + 1)
        np.testing.assert_array_equal(out.next_observation[:, 2:], draws[held + 1])
        np.testing.assert_array_equal(out.action, held % 3)


def test_a_lane_with_512_distractors_takes_less_than_half_a_gigabyte():
    spec = EnvSpec("CartPole-v1", 4 + 512, 2, distractors=512)
    buffer = jax.eval_shape(lambda: replay.empty(spec, 200_000, jnp.float32))
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(buffer))
    assert 200_000 * 4 * 516 < size < 0.5e9


def test_a_lane_by_its_index_is_the_lane_by_itself():
    noise, capacity = 2, 3
    spec = EnvSpec("probe", 2 + noise, 3, distractors=noise)
    alone = [replay.empty(spec, capacity, jnp.float64)] * 2
    both = jax.tree.map(lambda x: jnp.stack([x, x]), alone[0])
    bits = jnp.arange(capacity, dtype=jnp.uint32)
    for i in range(7):
        plain = transition(i, jnp.int32(i % 3))
        seen = plain._replace(
            observation=jnp.concatenate([plain.observation, jnp.array([i, 0.5])]),
            next_observation=jnp.concatenate([plain.next_observation, jnp.array([i + 1, 0.5])]),
        )
        lane = int(i in (0, 1, 4, 6))
        alone[lane] = replay.add(alone[lane], seen)
        both = replay.add(both, seen, lane=(jnp.int32(lane),))
    for lane in range(2):
        jax.tree.map(
            np.testing.assert_array_equal,
            (jax.tree.map(lambda x, i=lane: x[i], both), replay.sample(both, bits, spec, (lane,))),
            (alone[lane], replay.sample(alone[lane], bits, spec)),
        )


@pytest.mark.parametrize("noise", [0, 2])
@pytest.mark.parametrize("added", [3, 5, 9, 12])
def test_windows_are_transitions_that_were_added_one_after_another(noise, added):
    spec = EnvSpec("probe", 1 + noise, num_actions=3, distractors=noise)
    buffer = replay.empty(spec, 5, jnp.float32)
    for i in range(added):
        seen, after = (jnp.full(1 + noise, j, jnp.float32) for j in (i, i + 1))
        buffer = replay.add(buffer, Transition(seen, jnp.int32(0), jnp.float32(i), after, False))
    windows = replay.windows(buffer, jnp.arange(12, dtype=jnp.uint32), 3, spec)
    rewards = np.stack([one.reward for one in windows])
    held = min(added, 5)
    assert sorted(set(rewards[0].tolist())) == list(range(added - held, added - 2))
    np.testing.assert_array_equal(np.diff(rewards, axis=0), 1)
    for one, following in itertools.pairwise(windows):
        np.testing.assert_array_equal(one.next_observation, following.observation)
