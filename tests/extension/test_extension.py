"""Parts that live outside the package train by Python and by command line, in a sweep, are
evaluated, and resume to the same bits."""

import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

import omd
from omd.analysis.frames import final_returns

HERE = pathlib.Path(__file__).parent
SMALL = {
    "hidden": 8,
    "model_hidden": 4,
    "batch_size": 16,
    "random_steps": 40,
    "steps": 120,
    "evaluate_every": 40,
    "evaluate_episodes": 2,
    "evaluate_max_steps": 30,
}
PARTS = {  # beside them, networks and optimisers other than the defaults
    "objective": {"objective": "my_parts:IterVaml:weight=0.5"},
    "learner": {"env": "Pendulum-v1", "learner": "my_td3:Td3:smoothing=0.1"},
    "hypergradient": {"hypergradient": "my_parts:Richardson:steps=2"},
    "model": {
        "model": "my_parts:Pair:spread=0.01",
        "objective": "mle",
        "model_optimizer": "my_parts:Signs:scale=0.5",
        "learner_optimizer": "rmsprop",
    },
    "environment": {
        "env": "my_parts:Corridor",
        "env_args": {"length": 4},
        "hidden": (6, 3, 4),
        "model_hidden": (5,),
        "activation": "tanh",
        "model_activation": "silu",
    },
}


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))


@pytest.mark.parametrize("kind", PARTS)
def test_a_part_of_one_s_own_trains_is_evaluated_and_resumes(tmp_path, kind, kill_at):
    config = omd.Config(**{**SMALL, **PARTS[kind]})
    at_80 = kill_at(80, tmp_path / "whole")
    whole = omd.train(config, out=tmp_path, name="whole", progress=False, callbacks=[at_80])
    assert whole.finished
    assert np.isfinite(whole.metrics["episode_return"]).all()
    assert len(omd.load(whole.path).evaluate(2)) == 1

    resumed = omd.train(resume=tmp_path / "cut", progress=False)
    one, other = (r.metrics.select_dtypes("number") for r in (whole, resumed))
    np.testing.assert_array_equal(one.to_numpy(float), other.to_numpy(float))


def test_parts_of_one_s_own_are_axes_of_a_sweep(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    learner, objective = PARTS["learner"]["learner"], PARTS["objective"]["objective"]
    options = {k: [v] for k, v in {**SMALL, "env": "Pendulum-v1", "steps": 60}.items()}
    options |= {"learner": [learner], "objective": [objective], "model_hidden": [(4, 3), (2, 5)]}
    done = omd.sweep(None, options=options, out=tmp_path / "s", workers=1, progress=False)
    assert {group.padded for group in done.groups} == {(4, 5)}
    frame = omd.results(done.path)
    assert set(frame["status"]) == {"finished"}
    assert set(frame["objective"]) == {objective}
    assert set(frame["learner"]) == {learner}
    assert set(final_returns(frame)["model_hidden"]) == {"4x3", "2x5"}


def omd_command(folder, *words):
    command = [sys.executable, "-m", "omd.cli", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_the_command_line_finds_parts_beside_it_and_says_when_they_are_gone(tmp_path):
    shutil.copy(HERE / "my_parts.py", tmp_path)
    sizes = [w for k, v in SMALL.items() for w in (f"--{k.replace('_', '-')}", str(v))]
    done = omd_command(
        tmp_path,
        "train",
        "my_parts:Corridor",
        "--env-args",
        "length=3",
        "--objective",
        "my_parts:IterVaml:weight=0.3",
        *sizes,
        "--name",
        "mine",
        "--quiet",
    )
    assert done.returncode == 0, done.stderr
    (tmp_path / "my_parts.py").unlink()
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    gone = omd_command(tmp_path, "evaluate", "runs/mine")
    assert gone.returncode == 2
    assert "names a module 'my_parts' that is not there" in gone.stderr
    assert "Traceback" not in gone.stderr


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"objective": "my_parts:NotAPart"}, "isn't a part of this kind"),
        ({"objective": "my_parts:IterVam"}, "did you mean IterVaml"),
        ({"objective": "my_parts:IterVaml:wait=1"}, "unknown setting of my_parts:IterVaml 'wait'"),
        ({"objective": "my_parts:IterVaml:weight=-1"}, "weight of my_parts:IterVaml is -1"),
        ({"learner": "my_td3:Td3"}, "can't take the discrete actions"),
        ({"env": "my_parts:Corridor", "env_args": {"width": 3}}, "can't be built: TypeError"),
        ({"env": "my_parts:NotAPart"}, "is no gymnasium.Env"),
    ],
)
def test_what_is_wrong_with_a_part_is_one_sentence(tmp_path, settings, sentence):
    with pytest.raises(omd.InputError, match=sentence):
        omd.train(omd.Config(**{**SMALL, **settings}), out=tmp_path / "runs", progress=False)
    assert not (tmp_path / "runs").exists()


def test_an_environment_class_and_instances_of_parts_train_from_python(tmp_path):
    from my_parts import Corridor, IterVaml

    config = omd.Config(**SMALL, env=Corridor, objective=IterVaml(weight=0.3))
    run = omd.train(config, out=tmp_path, progress=False)
    assert run.path.name == "Corridor-IterVaml-1"
    assert omd.load(run.path).config.to_dict() == run.config.to_dict()
    assert run.config.label == "IterVaml (weight=0.3)"
