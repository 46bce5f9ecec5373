"""Looking an environment up, and everything that can be wrong with the request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import pytest

from omd import envs
from omd.errors import InputError
from omd.types import EnvSpec


def test_available_has_the_ids_of_each_backend() -> None:
    import gymnax

    assert envs.available()["gymnax"] == list(gymnax.registered_envs)
    assert "LunarLander-v3" in envs.available()["gymnasium"]


def test_ids_that_only_gymnasium_has_are_found_without_gymnax(run_script) -> None:
    run_script("""
        import sys
        from omd import envs
        assert envs.resolve("HalfCheetah-v5").on_host and envs.on_host("gymnasium:CartPole-v1")
        assert "gymnax" not in sys.modules
        assert not envs.resolve("CartPole-v1").on_host
    """)


def test_gymnax_comes_first_and_prefixes_force() -> None:
    assert not envs.make("Pendulum-v1", lanes=1).on_host
    assert not envs.make("gymnax:Pendulum-v1", lanes=1).on_host
    assert envs.make("gymnasium:Pendulum-v1", lanes=1).on_host
    assert envs.make("Taxi-v4", lanes=1).on_host


@pytest.mark.parametrize("id", ["CartPole-v1", "gymnasium:CartPole-v1"])
def test_spec_of_cartpole(id: str) -> None:
    spec = envs.make(id, lanes=2, distractors=3).spec
    assert spec == EnvSpec(
        id, observation_size=7, num_actions=2, max_episode_steps=500, distractors=3
    )


@pytest.mark.parametrize("id", ["Pendulum-v1", "gymnasium:Pendulum-v1"])
def test_spec_of_pendulum(id: str) -> None:
    spec = envs.make(id, lanes=1).spec
    assert spec == EnvSpec(id, 3, None, 1, (-2.0,), (2.0,), max_episode_steps=200)


def test_module_id_imports_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_walks.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Mine-v3', 'gymnasium.envs.classic_control:PendulumEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    env = envs.make("my_walks:Mine-v3", lanes=1)
    assert env.on_host
    assert env.spec.max_episode_steps is None
    assert envs.make("gymnasium:my_walks:Mine-v3", lanes=1).spec.observation_size == 3
    gymnasium.registry.pop("Mine-v3")


def test_dependency_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*_: Any, **__: Any) -> None:
        raise gymnasium.error.DependencyNotInstalled('run `pip install "gymnasium[box2d]"`')

    monkeypatch.setattr(gymnasium, "make", make)
    with pytest.raises(InputError, match=r"'LunarLander-v3' .*pip install 'omd-rl\[box2d\]'"):
        envs.make("LunarLander-v3", lanes=1)


@pytest.mark.parametrize(
    ("id", "sentence"),
    [
        ("CartPol-v1", r"unknown environment 'CartPol-v1': the nearest are CartPole-v1"),
        ("cartpole-v1", r"the nearest are CartPole-v1"),
        ("lunarlander", r"the nearest are .*LunarLander-v3"),
        ("gymnax:Taxi-v4", r"unknown environment 'gymnax:Taxi-v4'"),
        ("qqqqqqqqq", r"no id is near"),
        ("", r"unknown environment ''"),
        ("no_such_module:Env-v0", r"module 'no_such_module' that is not there"),
        ("HalfCheetah-v2", r"'HalfCheetah-v2' can't be built: .*gymnasium-robotics"),
        ("Blackjack-v1", r"observations from Tuple.*FlattenObservation"),
        ("Walk-dict-v0", r"'Walk-dict-v0' gives observations from Dict"),
        ("Walk-unbounded-v0", r"no finite bounds"),
        ("Walk-multi-discrete-v0", r"actions from MultiDiscrete"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_unusable_id(id: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        envs.make(id, lanes=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"lanes": 0}, "lanes is 0"),
        ({"lanes": 1.5}, "lanes is 1.5"),
        ({"distractors": -1}, "distractors is -1"),
        ({"dtype": jnp.int32}, "dtype is int32"),
        ({"dtype": jnp.float64}, "enable_x64"),
        ({"render_mode": "rgb_array"}, "use 'gymnasium:CartPole-v1'"),
    ],
)
def test_bad_options(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        envs.make("CartPole-v1", **({"lanes": 1} | options))


def test_gymnax_environment_that_needs_32_bits_says_so() -> None:
    with jax.enable_x64(True), pytest.raises(InputError, match="64-bit mode off"):
        envs.make("Breakout-MinAtar", lanes=1, dtype=jnp.float64)


@pytest.mark.parametrize(
    ("id", "arguments"),
    [
        ("os:mkdir", {"path": "made"}),
        ("os:system", {"command": "touch made"}),
        ("subprocess:Popen", {"args": ["touch", "made"]}),
        ("subprocess:run", {"args": ["touch", "made"]}),
        ("builtins:open", {"file": "made", "mode": "w"}),
        ("numpy:savetxt", {"fname": "made", "X": [1.0]}),
        ("pandas:read_pickle", {"filepath_or_buffer": "made"}),
    ],
)
def test_text_from_outside_calls_nothing_but_environments(
    tmp_path, monkeypatch, id, arguments
) -> None:
    """It may be the configuration of somebody else's run."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="makes no environments"):
        envs.make(id, lanes=1, arguments=arguments)
    assert not list(tmp_path.iterdir())
