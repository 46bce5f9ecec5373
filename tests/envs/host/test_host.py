"""Lanes on the host, in this process and in workers, beside Gymnasium's environments alone."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest

from omd.envs.host import Crew, Divergence, Lanes, build, workers_for
from omd.errors import InputError

MUJOCO = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5")
IDS = (*MUJOCO, "Pendulum-v1")
LANES = 3
SEEDS = np.array([3, 5, 8], np.int32)


def host(id: str, workers: int = 0, dtype: Any = np.float64, lanes: int = LANES) -> Any:
    env = gymnasium.make(id)
    size, shape = env.observation_space.shape[0], env.action_space.shape
    if workers == 0:
        return Lanes(lambda: build(id, id), id, first=0, count=lanes, size=size, dtype=dtype)
    spec = env.spec.to_json()
    return Crew(
        spec,
        id,
        count=lanes,
        size=size,
        dtype=dtype,
        action_shape=shape,
        action_dtype=dtype,
        workers=workers,
    )


def actions_of(id: str, steps: int, lanes: int = LANES) -> np.ndarray:
    space = gymnasium.make(id).action_space
    return np.random.default_rng(0).uniform(space.low, space.high, (steps, lanes, *space.shape))


def play(host: Any, actions: np.ndarray, start: int = 0) -> list[np.ndarray]:
    """The steps' rows, stacked over time; seeds of later episodes come from the step's number."""
    lanes = np.arange(actions.shape[1])
    rows = []
    for t, action in enumerate(actions, start=start):
        whole = np.stack([lanes, np.full_like(lanes, t), 100 * t + lanes]).astype(np.int32)
        rows.append(host.step(*whole, action))
    return [np.stack(column) for column in zip(*rows, strict=True)]


def by_hand(id: str, lane: int, actions: np.ndarray) -> list[list[Any]]:
    """Gymnasium's own environment: onward observation, successor, reward, flags."""
    env = gymnasium.make(id)
    env.reset(seed=int(SEEDS[lane]))
    rows = []
    for t, action in enumerate(actions):
        successor, reward, terminated, truncated, _ = env.step(np.float32(action))
        onward = successor
        if terminated or truncated:
            onward = env.reset(seed=100 * t + lane)[0]
        rows.append((onward, successor, reward, terminated, truncated))
    return [list(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("id", IDS)
def test_every_lane_is_gymnasiums_environment_bit_for_bit(id: str) -> None:
    """In this process, and in two workers that share three lanes."""
    actions = actions_of(id, 230)
    here, crew = host(id), host(id, workers=2)
    firsts = [np.array(one.reset(SEEDS)) for one in (here, crew)]
    np.testing.assert_array_equal(*firsts)
    ours, theirs = play(here, actions), play(crew, actions)
    ended = ours[4] | ours[5]
    assert ended.any() == (id != "HalfCheetah-v5")  # which never ends within these steps
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    for lane in range(LANES):
        for a, b in zip(ours[1:], by_hand(id, lane, actions[:, lane]), strict=True):
            np.testing.assert_array_equal(a[:, lane], b)
    crew.close()


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("cut", [0, 1, 57])
def test_restored_it_goes_on_bit_for_bit(id: str, cut: int) -> None:
    """Also in another process, across the ends of episodes, and with numbers MuJoCo derives."""
    actions = actions_of(id, cut + 200)
    whole = host(id)
    whole.reset(SEEDS)
    play(whole, actions[:cut])
    snapshot = {name: array.copy() for name, array in whole.snapshot().items()}
    assert ("physics" in snapshot) == (id in MUJOCO)
    expected = play(whole, actions[cut:], start=cut)
    resumed = host(id)
    resumed.reset(SEEDS + 1)
    resumed.restore(snapshot)
    for name, array in resumed.snapshot().items():
        np.testing.assert_array_equal(array, snapshot[name], err_msg=name)
    for a, b in zip(play(resumed, actions[cut:], start=cut), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_snapshot_of_one_number_of_workers_restores_in_another() -> None:
    id = "Hopper-v5"
    actions = actions_of(id, 120)
    two, three = host(id, workers=2), host(id, workers=3)
    two.reset(SEEDS)
    play(two, actions[:60])
    three.restore(two.snapshot())
    for a, b in zip(
        play(two, actions[60:], start=60), play(three, actions[60:], start=60), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(InputError, match="with 2 lanes"):
        host(id, workers=2, lanes=2).restore(two.snapshot())
    two.close(), three.close()


def test_some_lanes_can_step_in_any_order() -> None:
    """As when lanes lie on several devices."""
    id = "Hopper-v5"
    whole = np.array([[2, 0], [0, 0], [7, 9]], np.int32)
    actions = actions_of(id, 1)[0][:2]
    rows = []
    for workers in (0, 2):
        one = host(id, workers)
        one.reset(SEEDS)
        rows.append(one.step(*whole, actions))
        one.close()
    for a, b in zip(*rows, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(rows[0][1][0], rows[0][1][1])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_snapshot_that_comes_out_otherwise_is_refused(workers: int) -> None:
    id = "HalfCheetah-v5"
    one = host(id, workers)
    one.reset(SEEDS)
    play(one, actions_of(id, 2))
    snapshot = {name: array.copy() for name, array in one.snapshot().items()}
    snapshot["physics"][1, -1] += 1
    snapshot["physics"][1, 2] += 1e-6
    with pytest.raises(
        InputError, match="came to another observation when lane 1 was brought back"
    ):
        one.restore(snapshot)
    one.close()


def test_what_is_not_finite_ends_its_lane_and_no_other() -> None:
    id = "HalfCheetah-v5"
    actions = actions_of(id, 6)
    sick, sound = host(id), host(id)
    for one in (sick, sound):
        one.reset(SEEDS)
    for t, action in enumerate(actions):
        if t == 2:
            sick._lanes[1].env.unwrapped.data.qvel[:] = 1e13
        if t == 4:
            action = action.copy()
            action[2, 3] = np.nan
        a, b = (play(one, action[None], start=t) for one in (sick, sound))
        np.testing.assert_array_equal(a[1][:, 0], b[1][:, 0])
        assert np.isnan(a[1][0, 1]).all() == (t >= 2)
        assert np.isnan(a[3][0, 1]) == (t >= 2)
        assert a[4][0, 1] == (t >= 2)
    found = sick.divergences()
    assert found[1] == Divergence(3, actions[2, 1].tolist(), "MuJoCo finds the simulation unstable")
    assert found[2].step == 5
    assert "isn't finite" in str(found[2])
    assert list(sound.divergences()) == [2]
    restored = host(id)
    restored.restore(sick.snapshot())
    assert list(restored.divergences()) == [1, 2]
    a, b = (play(one, actions[:1], start=6) for one in (sick, restored))
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)
    sick.reset(SEEDS)
    assert not sick.divergences()


def test_workers_tell_divergence_and_failure(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sickly.py").write_text(
        "import gymnasium, numpy as np\n"
        "class Sickly(gymnasium.Env):\n"
        "    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)\n"
        "    action_space = gymnasium.spaces.Box(-1, 1, (1,))\n"
        "    def reset(self, seed=None, options=None):\n"
        "        super().reset(seed=seed)\n"
        "        return np.zeros(2), {}\n"
        "    def step(self, action):\n"
        "        if action[0] > 0.9: raise KeyError('lost')\n"
        "        return np.array([0, 1 / action[0]]), 0.0, False, False, {}\n"
    )
    sys.path.insert(0, str(tmp_path))
    gymnasium.register(id="Sickly-v0", entry_point="sickly:Sickly")
    try:
        crew = host("Sickly-v0", workers=2)
        crew.reset(SEEDS)
        with np.errstate(divide="ignore"):
            play(crew, np.array([[[0.5], [0.5], [0.0]]]))
        (found,) = crew.divergences().items()
        assert found[0] == 2
        assert "step 1, action [0]: number 1 of the observation is inf" in str(found[1])
        with pytest.raises(RuntimeError, match=r"'Sickly-v0', lane 1: KeyError: 'lost'"):
            play(crew, np.array([[[0.5], [0.95], [0.0]]]), start=1)
        assert crew.failure is not None
        crew.close()
    finally:
        sys.path.remove(str(tmp_path))
        del gymnasium.registry["Sickly-v0"]


def test_a_worker_that_dies_is_told() -> None:
    crew = host("Pendulum-v1", workers=2)
    crew.reset(SEEDS)
    crew._processes[1].kill()
    with pytest.raises(RuntimeError, match="a worker process has ended"):
        play(crew, actions_of("Pendulum-v1", 1))
    crew.close()


def test_short_steps_stay_in_this_process_and_long_ones_go_to_workers() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    assert workers_for(gymnasium.make("CartPole-v1"), 4, None)[0] == 0
    assert workers_for(gymnasium.make("Ant-v5"), 64, None)[0] > 1
    assert workers_for(gymnasium.make("Ant-v5"), 1, None)[0] == 0


def test_mujoco_leaves_no_log_and_no_text(tmp_path: pathlib.Path) -> None:
    """Where a program that uses the library runs."""
    script = "from omd.envs.host import build; build('HalfCheetah-v5', 'HalfCheetah-v5')"
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert run.stdout + run.stderr == ""
    assert not list(tmp_path.iterdir())


def test_images_and_dictionaries_are_refused() -> None:
    from omd.envs.host import observation_size

    box = gymnasium.spaces.Box
    with pytest.raises(InputError, match=r"images of shape \(96, 96, 3\)"):
        observation_size("Race-v0", box(0, 255, (96, 96, 3), np.uint8))
    with pytest.raises(InputError, match="FlattenObservation"):
        observation_size("Pair-v0", gymnasium.spaces.Dict({"a": box(0, 1, (2,))}))
    assert observation_size("Ram-v0", box(0, 255, (128,), np.uint8)) == 128
