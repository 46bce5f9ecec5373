"""MuJoCo in JAX: every step beside Gymnasium's own, from the same state."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import envs
from omd.envs import from_mjx
from omd.envs.from_mjx import State
from omd.errors import InputError
from omd.types import EnvSpec

LANES = 64
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""The simulator takes a minute to optimise and runs once."""


def rollout(name: str) -> dict[str, Any]:
    """What Gymnasium's walker did, by random actions, with the states before and after."""
    env: Any = gymnasium.make(name)
    data = env.unwrapped.data
    rng = np.random.default_rng(0)
    rows: list[Any] = []

    def state(elapsed: int) -> State:
        copies = [jnp.array(x, jnp.float32) for x in (data.qpos, data.qvel, data.qacc_warmstart)]
        return State(*copies, jnp.int32(elapsed))

    env.reset(seed=0)
    for elapsed in range(LANES):
        before, action = state(elapsed), rng.uniform(-1, 1, env.action_space.shape)
        observation, reward, terminated, _, _ = env.step(action)
        rows.append(
            {
                "before": before,
                "action": action.astype(np.float32),
                "after": state(elapsed + 1),
                "observation": observation,
                "reward": reward,
                "terminated": terminated,
            }
        )
        if terminated:
            env.reset()
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def test_steps_are_gymnasiums() -> None:
    expected = rollout("HalfCheetah-v5")
    env = envs.make("mjx:HalfCheetah-v5", lanes=LANES)
    assert not env.on_host
    elapsed = expected["before"].elapsed.copy()
    elapsed[-1] = 999
    arguments = jax.tree.map(
        jnp.asarray,
        (
            expected["before"]._replace(elapsed=elapsed),
            expected["action"],
            jax.random.split(jax.random.key(0), LANES),
        ),
    )
    step = jax.jit(env.step).lower(*arguments).compile(compiler_options=QUICK)
    after, seen = step(*arguments)

    scale = 1 + np.abs(expected["observation"])
    assert (np.abs(seen.next_observation - expected["observation"]) / scale).max() < 1e-4
    np.testing.assert_allclose(seen.reward, expected["reward"], atol=1e-4, rtol=1e-4)
    assert not seen.terminated.any()
    ended = np.arange(LANES) == LANES - 1
    np.testing.assert_array_equal(seen.truncated, ended)
    np.testing.assert_array_equal(after.elapsed, np.where(ended, 0, elapsed + 1))
    fresh = env.reset(arguments[-1])[1]
    np.testing.assert_allclose(seen.observation[ended], fresh[ended], rtol=1e-5)
    np.testing.assert_array_equal(seen.observation[~ended], seen.next_observation[~ended])


@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5"])
def test_rewards_and_ends_are_gymnasiums(name: str) -> None:
    expected = rollout(name)
    walker, _ = from_mjx.load(name, name, {})
    reward, terminated = jax.vmap(walker.outcome)(
        *(jax.tree.map(jnp.asarray, expected[key]) for key in ("before", "action", "after"))
    )
    np.testing.assert_allclose(reward, expected["reward"], atol=1e-3)
    np.testing.assert_array_equal(terminated, expected["terminated"])
    assert expected["terminated"].any() == (name != "HalfCheetah-v5")
    observed = jax.vmap(walker.observe)(jax.tree.map(jnp.asarray, expected["after"]))
    np.testing.assert_allclose(observed, expected["observation"], atol=1e-5)


@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5"])
def test_episodes_begin_as_gymnasiums(name: str) -> None:
    env = envs.make(f"mjx:{name}", lanes=1000)
    original: Any = gymnasium.make(name)
    state, observation = env.reset(jax.random.split(jax.random.key(1), env.lanes))
    starts = np.stack([original.reset(seed=seed)[0] for seed in range(1000)])
    spread = starts.std(0)
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        ours, theirs = (np.quantile(x, share, axis=0) for x in (observation, starts))
        assert (np.abs(ours - theirs) / spread).max() < 0.3
    np.testing.assert_allclose(observation.std(0), spread, rtol=0.1)
    assert state.position.shape == (1000, original.unwrapped.model.nq)


def test_spec_is_gymnasiums() -> None:
    spec = envs.make("mjx:Hopper-v5", lanes=1, distractors=2).spec
    host = envs.make("gymnasium:Hopper-v5", lanes=1, distractors=2).spec
    assert spec == EnvSpec(**{**vars(host), "id": "mjx:Hopper-v5"})


def test_plain_ids_stay_gymnasiums() -> None:
    assert envs.on_host("HalfCheetah-v5")
    assert not envs.on_host("mjx:HalfCheetah-v5")


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco.mjx", None)
    monkeypatch.delattr("mujoco.mjx", raising=False)
    with pytest.raises(InputError, match=r"pip install 'omd-rl\[mjx\]'"):
        envs.make("mjx:Hopper-v5", lanes=1)


def test_what_is_not_written_here_is_told() -> None:
    with pytest.raises(InputError, match="unknown environment 'mjx:Humanoid-v5'"):
        envs.make("mjx:Humanoid-v5", lanes=1)
