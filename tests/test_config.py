import pytest

from omd.config import Config
from omd.errors import InputError


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"objective": "odm"}, "unknown objective 'odm': did you mean omd?"),
        ({"hypergradient": "gmress"}, "unknown hypergradient 'gmress': did you mean gmres?"),
        ({"hypergradient": "cg:dampin=1"}, "dampin"),
        ({"hypergradient": "cg:damping=-1"}, "damping"),
        ({"objective": "mle", "hypergradient": "cg"}, "objective 'mle' has none"),
        ({"steps": 0}, "steps is 0: give a number of at least 1"),
        ({"steps": 1.5}, "steps is 1.5: give a whole number"),
        ({"learning_rate": -1e-3}, "learning_rate is -0.001: give a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan: give a finite number"),
        ({"tau": 1.5}, "tau is 1.5: give a number of at most 1"),
        ({"tau": "much"}, "tau is 'much': give a number"),
        ({"discount": 1}, "discount is 1: give a value below 1"),
        ({"temperature": 0}, "temperature is 0: give a number above 0"),
        ({"seeds": 0}, "seeds is 0: give at least 1"),
        ({"seeds": (1, 1)}, "give each seed once"),
        ({"seeds": "3"}, "seeds is '3'"),
        ({"model": "gaussian", "objective": "vep"}, "model 'deterministic'"),
        ({"start": "cold", "objective": "mle"}, "start is 'cold'"),
        ({"precision": "float16"}, "unknown precision 'float16'"),
        ({"critics": 3}, "critics is 3: give a number of at most 2"),
        ({"learner": "dqn"}, "unknown learner 'dqn'"),
        ({"learner": "sac", "operator": "hard"}, "operator is 'hard'"),
    ],
)
def test_bad_values_get_one_sentence(settings, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        Config(**settings)
    assert "\n" not in str(caught.value)


def test_a_configuration_survives_json():
    config = Config(seeds=(3, 5), hypergradient="cg:damping=1e-5,max_steps=100", tau=0.5)
    assert Config.from_dict(config.to_dict()) == config
    assert Config(seeds=3).seed_list == (0, 1, 2)
    with pytest.raises(InputError, match="unknown setting 'tua'"):
        Config.from_dict({"tua": 0.5})


def test_folders_that_hold_no_run(tmp_path):
    with pytest.raises(InputError, match="is no run"):
        Config.of_run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="can't be read"):
        Config.of_run(tmp_path)


@pytest.mark.parametrize(
    ("settings", "continuous", "sentence"),
    [
        ({"batch_size": 2000}, False, "holds only 1000 transitions when learning starts"),
        ({"replay_capacity": 100}, False, "holds only 100 transitions.*replay_capacity"),
        ({"steps": 5000}, True, "learning starts only after 10000 random steps"),
        ({"random_steps": 10}, True, "holds only 10 transitions"),
        ({"learner": "sac"}, False, "can't take the discrete actions of environment 'CartPole-v1'"),
        ({"learner": "soft-q"}, True, "can't take the continuous actions.*give learner 'sac'"),
        ({"operator": "hard"}, True, "operator is 'hard'"),
    ],
)
def test_settings_that_the_environment_s_actions_rule_out(settings, continuous, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        Config(**settings).resolved(continuous)
    assert "\n" not in str(caught.value)


def test_defaults_follow_the_learner_and_given_values_stay():
    config = Config(tau=0.25, evaluate_every=7)
    assert not config.is_resolved
    discrete, continuous = config.resolved(continuous=False), config.resolved(continuous=True)
    assert (discrete.learner, continuous.learner) == ("soft-q", "sac")
    assert (discrete.hidden, continuous.hidden) == (32, 256)
    assert (discrete.model_network, continuous.model_network) == ("separate", "joint")
    assert discrete.hypergradient == "identity"
    for one in (discrete, continuous):
        assert one.is_resolved
        assert None not in [v for k, v in one.to_dict().items() if k != "replay_capacity"]
        assert (one.tau, one.evaluate_every) == (0.25, 7)
        assert Config.from_dict(one.to_dict()) == one == one.resolved(one.learner == "sac")


def test_omd_with_sac_has_defaults_of_its_own():
    omd, mle = (Config(objective=o).resolved(continuous=True) for o in ("omd", "mle"))
    assert omd.hypergradient == "gauss-newton:damping=1e-3"
    assert mle.hypergradient == "identity"
    assert (omd.inner_learning_rate, mle.inner_learning_rate) == (1e-3, 3e-4)
    given = Config(hypergradient="cg", inner_learning_rate=0.5).resolved(continuous=True)
    assert (given.hypergradient, given.inner_learning_rate) == ("cg", 0.5)


def test_folders_from_before_a_choice_keep_what_they_were_run_with():
    stored = Config().resolved(continuous=False).to_dict()
    del stored["model_output"], stored["learner"]
    assert Config.of_stored(stored).model_output == "state"
