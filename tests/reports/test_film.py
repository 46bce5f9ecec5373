"""Moving pictures of policies, drawn without a display."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys
from typing import Any

import imageio.v3
import numpy as np
import pytest

import omd
from omd.reports import film

SETTINGS: dict[str, Any] = {
    "hidden": 4,
    "model_hidden": 4,
    "batch_size": 8,
    "random_steps": 10,
    "evaluate_every": 20,
    "evaluate_episodes": 1,
    "steps": 20,
    "seeds": 2,
}


@dataclasses.dataclass
class Stub:
    """A run whose policy does nothing, for what needs no training."""

    folder: pathlib.Path
    config: omd.Config
    size: int = 0

    def act(self, observation: np.ndarray, *, seed: int | None = None) -> np.ndarray:
        return np.zeros(self.size, np.float32) if self.size else np.int32(0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("runs")
    return omd.train(omd.Config(**SETTINGS, distractors=2), out=out, name="pole", progress=False)


def test_a_film_of_a_trained_policy(
    run: Any, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    path = film.watch(run, steps=60, seed=1)
    assert path == run.path / "policy.gif"
    frames = imageio.v3.imread(path)
    assert frames.shape[1:] == (200, 300, 3)
    assert 20 < len(frames) <= 31  # 25 a second, where the pole has 50; equal ones are merged
    assert np.ptp(frames, axis=(1, 2, 3)).min() > 100
    assert (frames[0] != frames[-1]).any()
    assert film.watch(run, run.path / "film.mp4", steps=10).stat().st_size > 1000
    assert not [w for w in recwarn if "fork" in str(w.message)]  # JAX's warning of a deadlock


def test_the_picture_shows_the_state_of_the_run_that_was_trained(run: Any) -> None:
    """Gymnasium's renderer draws gymnax's state: the cart is where its position says."""
    import functools

    from omd import envs

    stage = film._stage("CartPole-v1", functools.partial(envs.make, "CartPole-v1", lanes=1))
    import jax

    state, _ = stage.env.reset(jax.random.split(jax.random.key(0), 1))
    for x in (-1.5, 0.0, 1.5):
        frame = stage.draw(state.replace(x=np.full(1, x), theta=np.zeros(1)))
        dark = np.flatnonzero((frame[280:310].sum(-1) < 30).sum(0) > 20)
        assert abs(dark.mean() - (300 + x * 600 / 4.8)) < 4


@pytest.mark.parametrize(("id", "size"), [("HalfCheetah-v5", 6), ("gymnasium:Pendulum-v1", 1)])
@pytest.mark.stand_ins
def test_continuous_environments_are_drawn(id: str, size: int, tmp_path: pathlib.Path) -> None:
    stub: Any = Stub(tmp_path, omd.Config(env=id, **{**SETTINGS, "seeds": 1}), size)
    try:
        frames = imageio.v3.imread(film.watch(stub, steps=3))
    except omd.InputError as error:
        if "libegl1" in str(error):
            pytest.skip(str(error))
        raise
    assert frames.ndim == 4
    assert np.ptp(frames, axis=(1, 2, 3)).min() > 50
    assert (frames[0] != frames[-1]).any()


def test_mujoco_in_jax_is_drawn_by_gymnasium(tmp_path: pathlib.Path) -> None:
    import functools

    import jax

    from omd import envs

    id = "mjx:Hopper-v5"
    with film._variables():
        stage = film._stage(id, functools.partial(envs.make, id, lanes=1))
        state, _ = stage.env.reset(jax.random.split(jax.random.key(0), 1))
        lifted = state._replace(position=state.position.at[0, 1].add(0.3))
        try:
            frames = [film._drawn(id, lambda s=s: stage.draw(s)) for s in (state, lifted, state)]
        except omd.InputError as error:
            if "libegl1" in str(error):
                pytest.skip(str(error))
            raise
    assert (frames[0] != frames[1]).any()
    np.testing.assert_array_equal(frames[0], frames[2])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"out": "x.png"}, r"out is 'x.png': give a name that ends in \.gif or \.mp4"),
        ({"out": "nowhere/x.gif"}, "no folder nowhere"),
        ({"steps": 0}, "steps is 0"),
        ({"seed": 7}, "seed 7 is none of this run's"),
    ],
)
def test_bad_input_writes_nothing(run: Any, settings: dict[str, Any], sentence: str) -> None:
    before = sorted(run.path.iterdir())
    with pytest.raises(omd.InputError, match=sentence):
        film.watch(run, **settings)
    assert sorted(run.path.iterdir()) == before


@pytest.mark.stand_ins
def test_what_has_no_renderer_is_told(tmp_path: pathlib.Path) -> None:
    stub: Any = Stub(tmp_path, omd.Config(env="Catch-bsuite", **SETTINGS))
    with pytest.raises(omd.InputError, match="'Catch-bsuite' has no renderer"):
        film.watch(stub)
    stub.config = omd.Config(env="gymnasium:FrozenLake-v1", **SETTINGS)
    monkey = pytest.MonkeyPatch()
    monkey.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(omd.InputError, match=r"pip install 'omd-rl\[watch\]'"):
        film.watch(stub, tmp_path / "x.mp4")
    monkey.undo()
    assert not list(tmp_path.iterdir())


def test_a_missing_library_of_the_system_is_one_sentence(tmp_path: pathlib.Path) -> None:
    """In a process of its own: a library once loaded stays loaded."""
    script = (
        "import pathlib, omd\n"
        "from omd.reports import film\n"
        "from types import SimpleNamespace as N\n"
        "import numpy as np\n"
        f"run = N(folder=pathlib.Path({str(tmp_path)!r}), config=omd.Config(env='HalfCheetah-v5'),"
        " act=lambda observation, seed: np.zeros(6))\n"
        "try: film.watch(run, steps=1)\n"
        "except omd.InputError as error: print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={k: v for k, v in os.environ.items() if "DISPLAY" not in k} | {"MUJOCO_GL": "glfw"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "'HalfCheetah-v5' can't be drawn here" in run.stdout
    assert "apt install libegl1" in run.stdout
    assert not list(tmp_path.iterdir())


def test_a_renderer_that_says_nothing_is_one_sentence():
    def broken():
        raise IndexError

    with pytest.raises(omd.InputError, match="IndexError"):
        film._drawn("Mine-v0", broken)
