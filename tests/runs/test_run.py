import json
import os
import signal
import threading

import jax
import numpy as np
import pandas as pd
import pytest
from killed import killed_at

import omd
from omd.runs import files
from omd.runs import run as runs

SETTINGS = {
    "hidden": 8,
    "model_hidden": 8,
    "batch_size": 16,
    "random_steps": 100,
    "evaluate_every": 100,
    "evaluate_episodes": 2,
    "steps": 400,
    "seeds": 2,
}

pytestmark = pytest.mark.as_shipped


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return omd.train(omd.Config(**SETTINGS), out=out, name="whole", progress=False)


def assert_same_bits(one, other):
    a, b = (files.read_checkpoint(run.path / "checkpoint.safetensors") for run in (one, other))
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    pd.testing.assert_frame_equal(one.metrics, other.metrics, check_exact=True)


def test_a_run_leaves_its_settings_numbers_and_picture(whole):
    names = sorted(p.name for p in whole.path.iterdir() if not p.name.startswith("."))
    assert names == [
        "checkpoint.safetensors",
        "config.json",
        "learning-curve.png",
        "metrics.parquet",
        "provenance.json",
    ]
    metrics = whole.metrics
    assert list(metrics["step"].unique()) == [0, 100, 200, 300, 400]
    assert list(metrics["seed"].unique()) == [0, 1]
    assert (metrics["episode_return"] >= 1).all()
    assert metrics.loc[metrics["step"] > 100, "model_mse"].gt(0).all()
    assert whole.finished
    assert not whole.diverged()
    text = (whole.path / "provenance.json").read_text()
    assert str(whole.path.parent) not in text
    assert json.loads(text)["sessions"][0]["versions"]["jax"] == jax.__version__


def test_a_loaded_run_is_the_run_that_was_trained(whole):
    loaded = omd.load(whole.path)
    pd.testing.assert_frame_equal(loaded.metrics, whole.metrics)
    assert loaded.config == whole.config
    observation = np.array([0.1, -0.2, 0.05, 0.3])
    actions = loaded.act(np.stack([observation, -observation]), seed=1)
    assert actions.dtype == np.int32
    assert actions.shape == (2,)
    assert loaded.act(observation, seed=1) == actions[0]
    assert loaded.act(observation).shape == ()
    frame = loaded.evaluate(3)
    assert list(frame["seed"]) == [0, 1]
    pd.testing.assert_frame_equal(frame, loaded.evaluate(3))
    with pytest.raises(omd.InputError, match=r"shape \(3,\): give \[4\]"):
        loaded.act(np.zeros(3))
    with pytest.raises(omd.InputError, match="seed 7 is none"):
        loaded.act(observation, seed=7)


def test_a_killed_run_resumes_to_the_same_bits(whole, tmp_path, checkpoint_each_chunk):
    checkpoint_each_chunk()
    with killed_at(300):
        runs.start(omd.Config(**SETTINGS), out=tmp_path, name="cut")
    stopped = omd.load(tmp_path / "cut")
    assert not stopped.finished
    resumed = omd.train(resume=stopped.path, progress=False)
    assert_same_bits(resumed, whole)
    sessions = json.loads((stopped.path / "provenance.json").read_text())["sessions"]
    assert [s.get("from_step") for s in sessions] == [None, 200]


def test_a_run_killed_before_its_first_checkpoint_starts_over(whole, tmp_path):
    with killed_at(100):
        runs.start(omd.Config(**SETTINGS), out=tmp_path, name="cut")
    assert_same_bits(omd.train(resume=tmp_path / "cut", progress=False), whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_with_a_checkpoint(whole, tmp_path, number):
    assert threading.current_thread() is threading.main_thread()

    def send(evaluation):
        if evaluation.step == 200:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    config = omd.Config(**SETTINGS)
    stopped = omd.train(config, out=tmp_path, name="cut", progress=False, callbacks=[send])
    assert signal.getsignal(number) is before
    assert stopped.step == 200
    assert not stopped.finished
    assert_same_bits(omd.train(resume=stopped.path, progress=False), whole)


def test_resume_refuses_other_settings_and_folders_that_are_no_run(whole, tmp_path):
    other = omd.Config(**{**SETTINGS, "tau": 0.5})
    with pytest.raises(omd.InputError, match=r"tau is 0\.01 there, not 0\.5"):
        omd.train(other, resume=whole.path, progress=False)
    with pytest.raises(omd.InputError, match="is no run"):
        omd.train(resume=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_something_else_is_refused(whole, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({**whole.config.to_dict(), "steps": 500, "hidden": 9})
    )
    for name in ("checkpoint.safetensors", "metrics.parquet", "provenance.json"):
        (folder / name).write_bytes((whole.path / name).read_bytes())
    with pytest.raises(omd.InputError, match="the checkpoint has float32"):
        omd.train(resume=folder, progress=False)
    (folder / "checkpoint.safetensors").write_bytes(b"\x80\x04not a checkpoint")
    with pytest.raises(omd.InputError, match="can't be read"):
        omd.train(resume=folder, progress=False)


@pytest.mark.parametrize(
    ("settings", "options", "sentence"),
    [
        ({"env": "CartPole-v9"}, {}, r"unknown environment 'CartPole-v9'.*CartPole-v1"),
        ({"env": "Pendulum-v1", "learner": "soft-q"}, {}, "continuous actions"),
        ({"learner": "sac"}, {}, "discrete actions"),
        ({}, {"track": "tensorbord"}, "unknown tracker 'tensorbord'.*tensorboard"),
        ({}, {"name": "a/b"}, "name is 'a/b'"),
    ],
)
def test_bad_input_writes_nothing(tmp_path, settings, options, sentence):
    with pytest.raises(omd.InputError, match=sentence):
        omd.train(omd.Config(**{**SETTINGS, **settings}), out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_names_and_folders_that_are_taken(whole, tmp_path):
    config = omd.Config(**SETTINGS)
    with pytest.raises(omd.InputError, match="a run 'whole' exists"):
        runs.start(config, out=whole.path.parent, name="whole")
    (tmp_path / "file").write_text("")
    with pytest.raises(omd.InputError, match="can't be written"):
        runs.start(config, out=tmp_path / "file")


def test_tensorboard_gets_every_evaluation(tmp_path):
    pytest.importorskip("tensorboardX")
    run = omd.train(omd.Config(**SETTINGS), out=tmp_path, track="tensorboard", progress=False)
    (events,) = (run.path / "tensorboard").iterdir()
    assert b"episode_return/seed-1" in events.read_bytes()
