import numpy as np
import pandas as pd
import pytest

import omd
from omd.analysis import aggregates


def lanes(objective, returns, **task):
    task = {
        "env": "CartPole-v1",
        "model_hidden": 3,
        "distractors": 0,
        "distractor_kind": "noise",
        **task,
    }
    return [
        {"objective": objective, **task, "seed": i, "final_return": r, "initial_return": 20.0}
        for i, r in enumerate(returns)
    ]


FINALS = pd.DataFrame(
    lanes("omd", [120.0, 220.0])
    + lanes("mle", [20.0, 220.0])
    + lanes("omd", [20.0, 20.0], distractors=8)
    + lanes("mle", [20.0, 70.0], distractors=8)
)


def test_scores_are_between_the_untrained_return_and_the_best_mean():
    found, ends = aggregates.scores(FINALS)
    assert ends == {"CartPole-v1": {"zero": 20.0, "one": 170.0}}
    np.testing.assert_allclose(found["omd"], [[100 / 150, 200 / 150], [0, 0]])
    assert [aggregates.name_of(task) for task in aggregates.tasks(FINALS)] == [
        "width 3",
        "width 3, 8 distractors",
    ]


def test_improvement_and_profiles_by_hand():
    found, _ = aggregates.scores(FINALS)
    # task 1: 120 > 20, 120 < 220, 220 > 20, 220 = 220; task 2: a tie and a loss, twice
    probability = aggregates.improvement(found["omd"], found["mle"])
    assert probability.estimate == pytest.approx((2.5 / 4 + 1 / 4) / 2)
    assert 0 <= probability.low <= probability.estimate <= probability.high <= 1
    back = aggregates.improvement(found["mle"], found["omd"])
    assert probability.estimate + back.estimate == pytest.approx(1)
    shares = aggregates.profile(found["mle"], np.array([0.0, 0.3, 0.5]))
    assert shares["share"].tolist() == [0.5, 0.5, 0.25]


def test_the_interquartile_mean_is_over_all_runs_and_its_interval_within_tasks():
    tight = [np.array([1.0, 1.0, 1.0]), np.array([5.0, 5.0, 5.0])]
    found = aggregates.iqm(tight)
    assert found == (3.0, 3.0, 3.0)  # drawing within tasks changes nothing
    one = aggregates.iqm([np.array([1.0]), np.array([2.0])])
    assert one.estimate == 1.5
    assert np.isnan(one.low)


def test_exports_have_the_shapes_that_the_libraries_take():
    found, _ = aggregates.scores(FINALS)
    arrays = aggregates.rliable(found)
    assert {name: x.shape for name, x in arrays.items()} == {"omd": (2, 2), "mle": (2, 2)}
    np.testing.assert_allclose(arrays["mle"][:, 1], [0, 50 / 150])
    finals = FINALS.assign(sweep=0, lane=range(8))
    frame = pd.concat(
        [
            finals.drop(columns="final_return").assign(step=s, episode_return=float(s))
            for s in (0, 9)
        ]
    )
    exported = aggregates.marl_eval(frame, finals)
    run = exported["CartPole-v1"]["width 3, 8 distractors"]["mle"]["seed_1"]
    assert run["step_1"] == {"step_count": 9, "return": [9.0]}
    assert run["absolute_metrics"] == {"return": [70.0]}


def test_marl_eval_gets_the_same_runs_and_evaluations_everywhere():
    finals = FINALS.assign(sweep=0, lane=range(8)).replace({"omd": "omd:start=cold,outer_batch=x"})
    one_more = finals[finals["objective"] == "mle"].assign(seed=7, lane=[8, 9, 10, 11])
    finals = pd.concat([finals, one_more[one_more["distractors"] == 0].head(1)])
    frame = pd.concat(
        [
            finals.drop(columns="final_return").assign(step=s, episode_return=float(s))
            for s in (0, 9)
        ]
    )
    frame = frame[(frame["lane"] != 3) | (frame["step"] == 0)]  # a lane that ended early
    tasks = aggregates.marl_eval(frame, finals)["CartPole-v1"]
    found = {(task, name): runs for task, each in tasks.items() for name, runs in each.items()}
    assert {name for _, name in found} == {"omd:start=cold;outer_batch=x", "mle"}
    assert len(found) == 4
    for runs in found.values():
        assert set(runs) == {"seed_0", "seed_1"}
        assert all(set(run) == {"step_0", "absolute_metrics"} for run in runs.values())


def test_what_cannot_be_compared_is_one_sentence():
    with pytest.raises(omd.InputError, match="'mle' has no finished lane on CartPole-v1, width 3"):
        aggregates.scores(FINALS.drop(index=[2, 3]))
    with pytest.raises(omd.InputError, match="no scale for scores"):
        aggregates.scores(FINALS.assign(final_return=10.0))
