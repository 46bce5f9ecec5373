"""Host environments: compiled, restarted, restored, and failing in a clear way."""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import envs
from omd.envs import from_gymnasium
from omd.errors import InputError

KEYS = jax.random.split(jax.random.key(11), 3)
HOST = ("gymnasium:CartPole-v1", "gymnasium:Acrobot-v1", "gymnasium:Pendulum-v1", "Walk-v0")


def test_scan_is_gymnasium_stepped_by_hand() -> None:
    """The same seeds and actions, no phantom step, the true successor, our own reset."""
    env = envs.make("gymnasium:CartPole-v1", lanes=3)
    actions = np.random.default_rng(0).integers(0, 2, (120, 3))
    state, first = env.reset(KEYS)

    def body(state: Any, now: Any) -> Any:
        index, action = now
        return env.step(state, action, jax.vmap(lambda k: jax.random.fold_in(k, index))(KEYS))

    steps = jax.jit(lambda s: jax.lax.scan(body, s, (jnp.arange(120), actions)))(state)[1]
    for lane in range(3):
        theirs = gymnasium.make("CartPole-v1")
        observation, _ = theirs.reset(seed=seed_of(KEYS[lane]))
        np.testing.assert_array_equal(observation, first[lane])
        for t in range(120):
            successor, reward, terminated, truncated, _ = theirs.step(int(actions[t, lane]))
            onward = successor
            if terminated or truncated:
                onward, _ = theirs.reset(seed=seed_of(jax.random.fold_in(KEYS[lane], t)))
            expected = (onward, successor, reward, terminated, truncated)
            for ours, value in zip(steps, expected, strict=True):
                np.testing.assert_array_equal(ours[t, lane], value)
        assert steps.terminated[:, lane].any()


def seed_of(key: jax.Array) -> int:
    episode = jax.random.fold_in(key, envs.Draw.EPISODE.value)
    return int(jax.random.bits(episode, (), jnp.uint32) >> 1)


class Narrow(gymnasium.Env):
    """Bounds that float32 rounds outwards; actions are checked as Gymnasium does."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Box(-0.1, np.array([0.3]), (1,), np.float64)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(1), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        return np.zeros(1), float(action[0]), False, False, {}


def test_actions_at_bounds_of_float64_are_in_the_space() -> None:
    assert np.float64(np.float32(-0.1)) < -0.1
    assert np.float64(np.float32(0.3)) > 0.3
    env = envs.make(Narrow, lanes=2)
    state, _ = env.reset(KEYS[:2])
    _, after = env.step(state, jnp.asarray([[-0.1], [0.3]], jnp.float32), KEYS[:2])
    assert after.reward.tolist() == [np.float32(-0.1), np.float32(0.3)]
    assert env.divergences() == {}


def test_time_limit_truncates_without_terminating(unroll: Any) -> None:
    env = envs.make("gymnasium:Pendulum-v1", lanes=2)
    steps = unroll(env, KEYS[:2], 401)[1]
    assert np.flatnonzero(steps.truncated[:, 0]).tolist() == [199, 399]
    assert not steps.terminated.any()
    ended = steps.truncated[:, 0]
    assert np.all(steps.observation[ended, 0] != steps.next_observation[ended, 0])


def test_a_lane_alone_is_the_lane_among_three_bit_for_bit(unroll: Any) -> None:
    three, one = envs.make("Walk-v0", lanes=3), envs.make("Walk-v0", lanes=1)
    among = unroll(three, KEYS, 100)[1]
    alone = unroll(one, KEYS[1:2], 100)[1]
    for ten, single in zip(among, alone, strict=True):
        np.testing.assert_array_equal(ten[:, 1:2], single)


def test_two_environments_are_independent(unroll: Any) -> None:
    training, evaluation = (envs.make("Walk-v0", lanes=3) for _ in range(2))
    state, _ = unroll(training, KEYS, 15)
    unroll(evaluation, KEYS, 15)
    rest = unroll(training, KEYS, 15, state, start=15)[1]
    again = envs.make("Walk-v0", lanes=3)
    whole = unroll(again, KEYS, 30)[1]
    for part, full in zip(rest, whole, strict=True):
        np.testing.assert_array_equal(part, full[15:])


@pytest.mark.parametrize(
    ("id", "wide"), [*((id, False) for id in HOST), ("gymnasium:Pendulum-v1", True)]
)
def test_restored_from_a_snapshot_it_goes_on_bit_for_bit(id: str, wide: bool, unroll: Any) -> None:
    with jax.enable_x64(wide):
        dtype = jnp.float64 if wide else jnp.float32
        env = envs.make(id, lanes=3, dtype=dtype)
        state, _ = unroll(env, KEYS, 73)
        snapshot, saved = env.snapshot(), jax.tree.map(np.asarray, state)
        expected = unroll(env, KEYS, 73, state, start=73)[1]

        resumed = envs.make(id, lanes=3, dtype=dtype)
        resumed.restore(snapshot)
        assert all(np.array_equal(resumed.snapshot()[k], v) for k, v in snapshot.items())
        actual = unroll(resumed, KEYS, 73, jax.tree.map(jnp.asarray, saved), start=73)[1]
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert expected.observation.dtype == dtype
    assert all(array.dtype != object for array in snapshot.values())  # no pickle in a checkpoint


def test_snapshot_before_the_first_reset_restores() -> None:
    snapshot = envs.make("Walk-v0", lanes=2).snapshot()
    env = envs.make("Walk-v0", lanes=2)
    env.restore(snapshot)
    env.reset(KEYS[:2])


def test_restore_refuses_what_does_not_fit() -> None:
    env = envs.make("Walk-v0", lanes=2)
    for snapshot in ({}, envs.make("Walk-v0", lanes=3).snapshot()):
        with pytest.raises(InputError, match="with 2 lanes"):
            env.restore(snapshot)


def test_restore_tells_an_environment_that_its_seed_does_not_govern(unroll: Any) -> None:
    env = envs.make("Walk-unseeded-v0", lanes=1)
    unroll(env, KEYS[:1], 2)
    assert env.snapshot()["length"].tolist() == [2]  # the episode is not over
    with pytest.raises(InputError, match=r"Walk-unseeded-v0.*lane 0.*can't be resumed"):
        envs.make("Walk-unseeded-v0", lanes=1).restore(env.snapshot())


def test_a_box2d_world_is_made_anew_for_each_episode(
    unroll: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a world remembers earlier episodes, so that a seed alone wouldn't bring one back."""
    remembering = envs.make("Walk-remember-v0", lanes=1)
    unroll(remembering, KEYS[:1], 20)
    with pytest.raises(InputError, match="can't be resumed"):
        envs.make("Walk-remember-v0", lanes=1).restore(remembering.snapshot())

    build_as_ever = from_gymnasium.build

    def build(*arguments: Any) -> Any:
        env: Any = build_as_ever(*arguments)
        env.unwrapped.spec.entry_point = "gymnasium.envs.box2d.bipedal_walker:BipedalWalker"
        return env

    monkeypatch.setattr(from_gymnasium, "build", build)
    worn = envs.make("Walk-remember-v0", lanes=1)
    unroll(worn, KEYS[:1], 20)
    envs.make("Walk-remember-v0", lanes=1).restore(worn.snapshot())


def test_an_exception_names_environment_and_lane(unroll: Any) -> None:
    env: Any = envs.make("Walk-raise-v0", lanes=2)
    sentence = r"environment 'Walk-raise-v0', lane \d: OverflowError: the floor is gone"
    with pytest.raises((RuntimeError, ValueError), match=sentence):  # JAX's issue 34083
        unroll(env, KEYS[:2], 20)
    with pytest.raises(RuntimeError, match=sentence):
        raise env.failure


def test_a_state_that_is_not_the_latest_is_refused() -> None:
    env = envs.make("Walk-v0", lanes=1)
    state, _ = env.reset(KEYS[:1])
    jax.block_until_ready(env.step(state, jnp.zeros(1, int), KEYS[:1]))
    with pytest.raises(Exception, match="can't go back"):
        jax.block_until_ready(env.step(state, jnp.zeros(1, int), KEYS[:1]))


def test_reset_needs_a_key_a_lane() -> None:
    with pytest.raises(InputError, match="give one key a lane"):
        envs.make("Walk-v0", lanes=2).reset(KEYS)


def test_a_lane_that_is_not_finite_gives_nan_from_there_on_and_is_told(unroll: Any) -> None:
    env: Any = envs.make("Walk-nan-v0", lanes=2)
    steps = unroll(env, KEYS[:2], 5)[1]
    assert np.isnan(steps.next_observation).all()
    assert np.isnan(steps.reward).all()
    assert steps.terminated.all()
    found = env.divergences()
    assert list(found) == [0, 1]
    assert "step 1, action" in str(found[0])
    assert "number 1 of the observation is nan" in str(found[0])


def test_workers_are_the_same_lanes(unroll: Any) -> None:
    three: Any = envs.make("HalfCheetah-v5", lanes=3, distractors=2, workers=2)
    here = envs.make("HalfCheetah-v5", lanes=3, distractors=2, workers=0)
    a, b = (unroll(env, KEYS, 20)[1] for env in (three, here))
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)
    assert a.observation.shape == (20, 3, 17 + 2)
    snapshots = [env.snapshot() for env in (three, here)]
    for name, array in snapshots[0].items():
        np.testing.assert_array_equal(array, snapshots[1][name], err_msg=name)
    three.close()


def test_workers_need_an_environment_that_they_can_build() -> None:
    with pytest.raises(InputError, match=r"'Walk-v0' can't run in 2 workers.*module:Class"):
        envs.make("Walk-v0", lanes=2, workers=2)


def test_discrete_observations_are_one_hot(unroll: Any) -> None:
    env = envs.make("gymnasium:FrozenLake-v1", lanes=2)
    steps = unroll(env, KEYS[:2], 30)[1]
    assert steps.observation.shape == (30, 2, 16)
    assert np.all(steps.observation.sum(-1) == 1)


def test_float64_actions_and_observations_arrive_unrounded(unroll: Any) -> None:
    """A callback's thread doesn't share the x64 context of the thread that compiled it."""
    with jax.enable_x64(True):
        env: Any = envs.make("gymnasium:Pendulum-v1", lanes=1, dtype=jnp.float64)
        unroll(env, KEYS[:1], 20)
        actions = env.snapshot()["actions"]
    assert actions.dtype == np.float64
    assert np.mean(actions != np.float32(actions)) > 0.9


def test_rendering_is_gymnasiums() -> None:
    env: Any = envs.make("gymnasium:FrozenLake-v1", lanes=2, render_mode="ansi")
    jax.block_until_ready(env.reset(KEYS[:2]))
    assert all("FHFH" in frame for frame in env.render())
    env.close()


def test_lanes_sharded_over_devices_are_the_same_lanes(run_script) -> None:
    script = """
        import jax, numpy as np, jax.numpy as jnp
        from jax.sharding import NamedSharding, PartitionSpec as P
        from omd import envs

        mesh, keys = jax.make_mesh((2,), ("lane",)), jax.random.split(jax.random.key(0), 4)
        assert len(jax.devices()) == 2

        def rollout(env, state, keys):
            def body(state, index):
                now = jax.vmap(lambda k: jax.random.fold_in(k, index))(keys)
                action = jax.random.key_data(now)[:, 0] % 2
                return env.step(state, action, now)
            return jax.lax.scan(body, state, jnp.arange(50))[1]

        plain, sharded = (
            envs.make("gymnasium:CartPole-v1", lanes=4) for _ in range(2))
        expected = jax.jit(lambda s, k: rollout(plain, s, k))(plain.reset(keys)[0], keys)
        state, own = jax.device_put((sharded.reset(keys)[0], keys), NamedSharding(mesh, P("lane")))
        actual = jax.jit(jax.shard_map(lambda s, k: rollout(sharded, s, k), mesh=mesh,
            in_specs=P("lane"), out_specs=P(None, "lane")))(state, own)
        assert actual.observation.sharding.num_devices == 2
        for a, b in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(a, b)
        print("same")
    """
    assert run_script(script, devices=2, timeout=120) == "same\n"
