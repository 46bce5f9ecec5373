import dataclasses
import json

import annotations
import pytest

import omd
from omd.parts import text_of
from omd.sweeps import plan, spec
from omd.sweeps.plan import Machine


def toml(tmp_path, text, name="mine.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_grids_are_products_with_seeds_inside(tmp_path):
    path = toml(
        tmp_path,
        """
        about = "two grids"
        [base]
        steps = 5000
        seeds = 2
        [[grid]]
        objective = ["omd", "mle"]
        model_hidden = [1, 3]
        [[grid]]
        objective = "vep"
        seeds = [4, 7]
        [[grid]]
        objective = "mle"
        model_hidden = 3
        """,
    )
    read = spec.read(path)
    assert (read.name, read.about) == ("mine", "two grids")
    assert [(text_of(c.objective), c.model_hidden, *c.seed_list) for c in read.lanes] == [
        ("omd", 1, 0),
        ("omd", 1, 1),
        ("omd", 3, 0),
        ("omd", 3, 1),
        ("mle", 1, 0),
        ("mle", 1, 1),
        ("mle", 3, 0),
        ("mle", 3, 1),
        ("vep", 32, 4),
        ("vep", 32, 7),
    ]
    assert {c.steps for c in read.lanes} == {5000}
    assert spec.from_json(json.loads(json.dumps(spec.to_json(read.lanes)))) == read.lanes


def test_options_replace_settings_everywhere_or_stand_alone(tmp_path):
    path = toml(tmp_path, "[base]\nseeds = 3\n[[grid]]\nobjective = ['omd', 'mle']\ntau = 0.5\n")
    read = spec.read(path, {"tau": [0.1, 0.2], "seeds": [1]})
    assert [(text_of(c.objective), c.tau) for c in read.lanes] == [
        ("omd", 0.1),
        ("omd", 0.2),
        ("mle", 0.1),
        ("mle", 0.2),
    ]
    alone = spec.read(None, {"objective": ["omd", "vep"], "seeds": [3, 5]})
    assert [(text_of(c.objective), *c.seed_list) for c in alone.lanes] == [
        ("omd", 3),
        ("omd", 5),
        ("vep", 3),
        ("vep", 5),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[grid]]\nmodel_width = [1]", "unknown setting 'model_width': did you mean model"),
        ("[base]\nsteps = 9", "no grid"),
        ("[[grid]]\ntau = []", "grid 1 has no value for tau"),
        ("[[grid]]\nobjective = ['omd', 'mel']", "grid 1, at objective 'mel'.*did you mean mle"),
        ("[[grid]]\ntau = [0.1, -1.0]", "grid 1, at tau -1.0: tau is -1.0"),
        ("[[grid]]\nseeds = [1, 1]", "give each seed once"),
        ("[[grids]]\ntau = [0.1]", "did you mean grid"),
        ("[[grid", "is not TOML"),
        ("grid = [3]", "grid 1 is 3"),
    ],
)
def test_bad_sweeps_are_one_sentence(tmp_path, text, sentence):
    with pytest.raises(omd.InputError, match=sentence):
        spec.read(toml(tmp_path, text))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("paper-figure-4-lef", "did you mean paper-figure-4-left"),
        ("nowhere/mine.toml", "does not exist"),
        (None, "no sweep"),
    ],
)
def test_unknown_sweeps(source, sentence):
    with pytest.raises(omd.InputError, match=sentence):
        spec.read(source)


def test_every_shipped_sweep_can_be_read_and_the_papers_two_have_its_2160_jobs():
    with annotations.ignored():  # of ten thousand configurations
        shipped = {name: spec.read(name) for name in spec.shipped()}
    for read in shipped.values():
        assert read.about
        assert len(set(read.lanes)) == len(read.lanes)
    left, right = (shipped[f"paper-figure-4-{side}"] for side in ("left", "right"))
    assert len(left.lanes) == len(right.lanes) == 1080
    assert {c.steps for c in (*left.lanes, *right.lanes)} == {200_000}
    assert {c.model_hidden for c in left.lanes} == {1, 2, 3, 4, 6, 12}
    assert {c.distractors for c in right.lanes} == {16, 32, 64, 128, 256, 512}
    assert len(plan.shapes(left.lanes)) == 3
    assert len(plan.shapes(right.lanes)) == 18


SMALL = {
    "hidden": 8,
    "batch_size": 16,
    "random_steps": 50,
    "steps": 400,
    "evaluate_every": 100,
    "evaluate_episodes": 2,
}


def test_groups_hold_one_shape_and_fit_into_memory():
    source = {
        "base": SMALL,
        "grid": [{"objective": ["omd", "mle"], "model_hidden": [1, 3], "seeds": 5}],
    }
    lanes = spec.read(source).lanes
    groups = plan.groups(lanes, Machine("cpu", 2, 1e9))
    assert sorted(n for g in groups for n in g.lanes) == list(range(20))
    assert all(len({plan.shape_of(lanes[n]) for n in g.lanes}) == 1 for g in groups)
    assert {g.padded for g in groups} == {3}
    several = dataclasses.replace(lanes[0], model_hidden=(2, 5)), lanes[0], lanes[-1]
    deep = dataclasses.replace(lanes[0], model_hidden=(2, 5, 1))
    assert plan.widest(several) == (3, 5)
    assert len(plan.shapes([*several, deep])) == 3
    assert max(len(g.lanes) for g in groups) == plan.CPU_LANES
    assert lanes[groups[0].lanes[0]].seed_list == (0,)
    one = groups[0]
    # what is counted: test_sweep_cost
    assert one.flops > 0
    assert one.bytes > 4 * 400 * 11
    device = plan.groups(lanes, Machine("gpu", 1, 1e9))
    assert sorted(len(g.lanes) for g in device) == [10, 10]
    tight = plan.groups(lanes, Machine("gpu", 1, 3 * one.bytes / plan.MEMORY_SHARE["gpu"]))
    assert max(len(g.lanes) for g in tight) == 3
    with pytest.raises(omd.InputError, match="one lane needs"):
        plan.groups(lanes, Machine("cpu", 2, one.bytes / 2))
    assert {len(g.lanes) for g in plan.groups(lanes, Machine("cpu", 2, 1e9), size=2)} == {2}


def test_settings_that_cannot_be_trained_are_refused():
    with pytest.raises(omd.InputError, match="unknown environment 'CartPole-v9'"):
        spec.read(None, {"env": ["CartPole-v1", "CartPole-v9"]})
    with pytest.raises(omd.InputError, match="can't take the discrete actions"):
        spec.read(None, {"env": ["CartPole-v1"], "learner": ["sac"]})


def test_lanes_take_the_defaults_of_their_environment_s_learner():
    lanes = spec.read(None, {"env": ["CartPole-v1", "Pendulum-v1"], "model_hidden": [3]}).lanes
    assert [(text_of(lane.learner), lane.hidden) for lane in lanes] == [
        ("soft-q", 32),
        ("sac", 256),
    ]
    assert spec.from_json(spec.to_json(lanes)) == lanes
    assert plan.representative(lanes[1:], 3).tau == lanes[1].tau
