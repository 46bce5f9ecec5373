import json

import numpy as np
import pytest

from omd import parts
from omd.config import Config, read
from omd.errors import InputError, nearest
from omd.runs import stored
from omd.settings import resolve
from omd.types import EnvSpec

DISCRETE = EnvSpec("CartPole-v1", 4, 2)
CONTINUOUS = EnvSpec("Pendulum-v1", 3, None, 1, (-2.0,), (2.0,))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"objective": "odm"}, "unknown objective 'odm': did you mean omd?"),
        ({"hypergradient": "gmress"}, "unknown hypergradient 'gmress': did you mean gmres?"),
        ({"hypergradient": "cg:dampin=1"}, "dampin"),
        ({"hypergradient": "cg:damping=-1"}, "damping"),
        ({"objective": "mle", "hypergradient": "cg"}, "objective 'mle' has none"),
        ({"steps": 0}, "steps is 0: give a number of at least 1"),
        ({"steps": 10**12}, "steps is 1000000000000: give a number of at most 2e"),
        ({"hidden": 10**9}, "hidden is 1000000000: give a number of at most 100000"),
        ({"model_hidden": 10**6}, "model_hidden is 1000000: give a number of at most 100000"),
        ({"hidden": (8, 0)}, "layer 2 of hidden is 0: give a number of at least 1"),
        ({"hidden": "8,a"}, "layer 2 of hidden is 'a': give a whole number"),
        ({"hidden": "8"}, "hidden is '8': give a whole number"),
        ({"hidden": ()}, "hidden has 0 layers: give 1 to 64"),
        ({"model_hidden": (8.5, 8)}, "layer 1 of model_hidden is 8.5: give a whole number"),
        ({"activation": "rleu"}, "unknown activation 'rleu': did you mean relu?"),
        ({"model_optimizer": "sdg"}, "unknown optimizer 'sdg': did you mean sgd?"),
        ({"learner_optimizer": "sgd:nesterov=true"}, "nesterov of sgd is true without momentum"),
        ({"learner_optimizer": "adam:b1=1"}, "b1 of adam is 1: give a number below 1"),
        ({"distractors": 10**7}, "distractors is 10000000: give a number of at most 100000"),
        ({"steps": 1.5}, "steps is 1.5: give a whole number"),
        ({"learning_rate": -1e-3}, "learning_rate is -0.001: give a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan: give a finite number"),
        ({"tau": 1.5}, "tau is 1.5: give a number of at most 1"),
        ({"tau": "much"}, "tau is 'much': give a number"),
        ({"discount": 1}, "discount is 1: give a number below 1"),
        ({"discount": 1 - 1e-9}, "discount is 0.999999999, which float32 rounds"),
        ({"temperature": 0}, "temperature is 0: give a number above 0"),
        ({"seeds": 0}, "seeds is 0: give at least 1"),
        ({"seeds": (1, 1)}, "give each seed once"),
        ({"seeds": "3"}, "seeds is '3'"),
        ({"model": "gaussian", "objective": "vep"}, "model 'deterministic'"),
        ({"objective": "mle:start=cold"}, "unknown setting of mle 'start'"),
        ({"precision": "float16"}, "unknown precision 'float16'"),
        ({"critics": 3}, "critics is 3: give a number of at most 2"),
        ({"learner": "dqn"}, "unknown learner 'dqn'"),
        ({"learner": "sac:operator=hard"}, "unknown setting of sac 'operator'"),
    ],
)
def test_bad_values_get_one_sentence(settings, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        resolve(Config(**settings), DISCRETE)
    assert "\n" not in str(caught.value)


def test_settings_survive_json():
    asked = Config(
        seeds=(3, 5),
        hypergradient="cg:damping=1e-5,max_steps=100",
        tau=0.5,
        objective="omd:constraint_target=moved",
        env_args="gravity=5.0,name=a",
        hidden="8,4",
        model_hidden=[3],
        learner_optimizer="sgd:momentum=0.5",
    )
    settings = resolve(asked, DISCRETE)
    written = json.loads(json.dumps(stored.to_json(settings)))
    assert stored.from_json(written) == settings
    assert written["hypergradient"] == "cg:damping=1e-5,rtol=1e-5,max_steps=100"
    assert (written["hidden"], written["model_hidden"]) == ([8, 4], [3])
    assert settings.env_arguments == {"gravity": 5.0, "name": "a"}
    assert Config(seeds=3).seed_list == (0, 1, 2) == Config(seeds=np.arange(3)).seed_list
    new = ("activation", "model_activation", "learner_optimizer", "model_optimizer")
    older = stored.from_json({k: v for k, v in written.items() if k not in new})
    assert [str(getattr(older, name)) for name in new[:2]] == ["relu", "relu"]
    assert [parts.text_of(getattr(older, name)) for name in new[2:]] == ["adam", "adam"]
    with pytest.raises(InputError, match="unknown setting 'tua'"):
        stored.from_json({**written, "tua": 0.5})
    with pytest.raises(InputError, match="its version is 99"):
        stored.from_json({**written, "version": 99})


def test_folders_that_hold_no_run(tmp_path):
    with pytest.raises(InputError, match="is no run"):
        stored.read_settings(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="can't be read"):
        stored.read_settings(tmp_path)


@pytest.mark.parametrize(
    ("settings", "continuous", "sentence"),
    [
        ({"batch_size": 2000}, False, "holds only 1000 transitions when learning starts"),
        ({"replay_capacity": 100}, False, "holds only 100 transitions.*replay_capacity"),
        ({"steps": 5000}, True, "learning starts only after 10000 random steps"),
        ({"random_steps": 10}, True, "holds only 10 transitions"),
        ({"learner": "sac"}, False, "can't take the discrete actions of environment 'CartPole-v1'"),
        ({"learner": "soft-q"}, True, "can't take the continuous actions.*give learner 'sac'"),
        ({"learner": "soft-q:operator=hard"}, True, "learner is 'soft-q:operator=hard', which"),
    ],
)
def test_settings_that_the_environment_s_actions_rule_out(settings, continuous, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        resolve(Config(**settings), CONTINUOUS if continuous else DISCRETE)
    assert "\n" not in str(caught.value)


def test_one_network_has_one_name():
    written = ("8", 8), ("8,8", 8), ("8x8", 8), ("8x", (8,)), ("8,4,2", (8, 4, 2))
    for text, widths in written:
        config = Config(hidden=read("hidden", text))
        assert config.hidden == widths
        assert read("hidden", parts.widths_text(config.hidden)) in (widths, text.replace(",", "x"))
    assert Config(hidden=np.array([8, 8])) == Config(hidden=8)


def test_defaults_follow_the_learner_and_given_values_stay():
    config = Config(tau=0.25, evaluate_every=7)
    discrete, continuous = (resolve(config, spec) for spec in (DISCRETE, CONTINUOUS))
    assert (parts.text_of(discrete.learner), parts.text_of(continuous.learner)) == ("soft-q", "sac")
    assert (discrete.hidden, continuous.hidden) == (32, 256)
    assert (discrete.model_network, continuous.model_network) == ("separate", "joint")
    assert parts.text_of(discrete.hypergradient) == "identity"
    for one, spec in ((discrete, DISCRETE), (continuous, CONTINUOUS)):
        open_ones = ("replay_capacity", "model_capacity")
        assert None not in [v for k, v in one.to_dict().items() if k not in open_ones]
        assert (one.tau, one.evaluate_every) == (0.25, 7)
        assert resolve(one, spec) == one


def test_omd_with_sac_has_defaults_of_its_own():
    omd, mle = (resolve(Config(objective=o), CONTINUOUS) for o in ("omd", "mle"))
    assert parts.text_of(omd.hypergradient, complete=True) == "gauss-newton:damping=0.001"
    assert parts.text_of(mle.hypergradient) == "identity"
    assert (omd.inner_learning_rate, mle.inner_learning_rate) == (1e-3, 3e-4)
    given = resolve(Config(hypergradient="cg", inner_learning_rate=0.5), CONTINUOUS)
    assert (parts.text_of(given.hypergradient), given.inner_learning_rate) == ("cg", 0.5)


def test_files_of_version_1_keep_what_they_were_run_with():
    old = {
        "env": "CartPole-v1",
        "objective": "omd",
        "constraint_target": "moved",
        "start": "warm",
        "outer_batch": "same",
        "operator": "hard",
        "vep_values": 4,
        "seeds": [0, 1],
        "tau": 0.5,
        "hypergradient": "cg:damping=1e-5",
    }
    settings = stored.from_json(old)
    assert settings.model_output == "state"
    assert settings.objective.constraint_target == "moved"
    assert settings.learner.operator == "hard"
    assert (settings.tau, settings.hidden, settings.seed_list) == (0.5, 32, (0, 1))
    assert stored.from_json({**old, "objective": "vep", "hypergradient": "identity"}).objective == (
        parts.part_of("objective", "vep:values=4")
    )


@pytest.mark.parametrize(
    ("name", "near"), [("Nope-v9", []), ("hoper-v5", ["Hopper-v5"]), ("Hopper-v9", ["Hopper-v5"])]
)
def test_only_names_that_look_alike_are_near(name, near):
    assert nearest(name, ["Hopper-v5", "CartPole-v1"]) == near
