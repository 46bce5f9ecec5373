import json
import math
import os
import signal

import numpy as np
import pandas as pd
import pytest

import omd
from omd.analysis.frames import final_returns
from omd.figures.paper import figure_4
from omd.parts import text_of
from omd.reports import tables
from omd.sweeps import driver, group, plan, race, spec

BASE = {
    "hidden": 8,
    "batch_size": 16,
    "random_steps": 50,
    "steps": 100,
    "evaluate_every": 50,
    "evaluate_episodes": 2,
}
RACE = {"over": ["tau"], "first": 2, "keep": 2, "more": 1}


def test_each_point_has_a_race_of_its_own_and_seeds_that_choose_are_apart():
    read = spec.read(
        {
            "base": BASE,
            "grid": [
                {
                    "objective": ["omd", "mle"],
                    "model_hidden": [1, 3],
                    "tau": [0.1, 0.2, 0.3],
                    "seeds": 4,
                    "race": RACE,
                },
                {"objective": "vep", "seeds": 2},
            ],
        }
    )
    assert len(read.points) == 4
    assert [c.tau for c in read.points[0].candidates] == [0.1, 0.2, 0.3]
    assert (
        len(
            {
                (text_of(p.candidates[0].objective), p.candidates[0].model_hidden)
                for p in read.points
            }
        )
        == 4
    )
    # the plain grid's two, and three settings of each point on two seeds
    assert len(read.lanes) == 2 + 4 * 3 * 2
    seeds = {lane.seed_list[0] for lane in read.lanes if text_of(lane.objective) != "vep"}
    assert seeds == {race.CHOICE_SEEDS, race.CHOICE_SEEDS + 1}
    sentence = race.budget(read.points)
    assert "24 lanes try 12 settings, 8 try" in sentence
    assert "16 are the report's; 48 lanes and 4,800 lane-steps in all" in sentence
    assert len(race.expected(read.points, read.lanes)) == 2 + 48
    assert race.from_json(json.loads(json.dumps(race.to_json(read.points)))) == read.points


def test_the_best_two_go_on_and_the_best_on_all_seeds_is_reported():
    (point,) = spec.read(
        {"base": BASE, "grid": [{"tau": [0.1, 0.2, 0.3, 0.4], "seeds": [7, 9], "race": RACE}]}
    ).points
    returns = {}

    def run(values):
        """Finish the lanes that are wanted; a value for each τ and seed, seeds counted from 0."""
        new = race.missing([point], returns, returns)
        for lane in new:
            returns[lane] = values[lane.tau][lane.seed_list[0] - race.CHOICE_SEEDS]
        return sorted((lane.tau, lane.seed_list[0] - race.CHOICE_SEEDS) for lane in new)

    # means on two seeds: 5, 6, 4, and one that is no number
    values = {
        0.1: [4.0, 6.0, 9.0],
        0.2: [6.0, 6.0, 1.0],
        0.3: [4.0, 4.0, 99.0],
        0.4: [100.0, math.nan, 99.0],
    }
    assert run(values) == [(t, s) for t in (0.1, 0.2, 0.3, 0.4) for s in (0, 1)]
    assert run(values) == [(0.1, 2), (0.2, 2)]
    # on three seeds 19/3 and 13/3
    last = race.missing([point], returns, returns)
    assert [(lane.tau, lane.seed_list) for lane in last] == [(0.1, (7,)), (0.1, (9,))]
    returns |= dict.fromkeys(last, 0.0)
    assert race.missing([point], returns, returns) == []


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (3, "grid 1: race is 3"),
        ({**RACE, "firsts": 2}, "unknown setting of a race 'firsts'.*did you mean first"),
        ({"over": ["tau"], "first": 2, "keep": 2}, "the race has no more"),
        ({**RACE, "over": []}, "over of the race is"),
        ({**RACE, "over": ["discount"]}, r"names 'discount'.*there are .*tau"),
        ({**RACE, "over": ["seeds"]}, "names 'seeds'"),
        ({**RACE, "over": ["objective"]}, "names 'objective'"),
        ({**RACE, "over": ["steps"]}, "has one setting only"),
        ({**RACE, "first": 0}, "first of the race is 0: give a whole number, 1 or more"),
        ({**RACE, "more": 1.5}, "more of the race is 1.5"),
        ({**RACE, "keep": 1}, "keep of the race is 1: give 2 to 3"),
        ({**RACE, "keep": 4}, "keep of the race is 4: give 2 to 3"),
    ],
)
def test_a_race_that_cannot_work_is_one_sentence(asked, sentence):
    grid = {"tau": [0.1, 0.2, 0.3], "race": asked}
    with pytest.raises(omd.InputError, match=sentence):
        spec.read({"base": BASE, "grid": [grid]})


def test_seeds_of_the_report_cannot_be_those_that_choose():
    grid = {"tau": [0.1, 0.2], "race": RACE, "seeds": [1, race.CHOICE_SEEDS]}
    with pytest.raises(omd.InputError, match="give seeds below 1,000,000"):
        spec.read({"base": BASE, "grid": [grid]})


SOURCE = {
    "base": BASE,
    "grid": [{"objective": "mle", "model_hidden": 3, "tau": [0.1, 0.9], "race": RACE}],
}


@pytest.fixture(scope="module")
def in_this_process():
    """Plans are made and groups run here, one lane a group: all stages share one program."""

    def plan_here(wanted):
        lanes = spec.from_json(wanted) if wanted["lanes"] else ()
        on = plan.Machine("cpu", 1, 1e9)
        groups = [g._asdict() for g in plan.groups(lanes, on, 1)] if lanes else []
        return {"machine": on._asdict(), "groups": groups, "seconds": None, "provenance": {}}

    def run_here(sweep, machine, stopped, screen):
        for one in sweep.groups:
            assert group.run(sweep, one.number) == group.FINISHED

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver.local, "plan", plan_here)
        patch.setattr(driver.local, "run", run_here)
        yield


@pytest.fixture(scope="module")
def raced(tmp_path_factory, in_this_process):
    """A finished sweep with a race."""
    return omd.sweep(SOURCE, out=tmp_path_factory.mktemp("race") / "raced", progress=False)


def test_a_raced_sweep_runs_its_stages_and_reports_the_best(raced, tmp_path):
    frame = omd.results(raced.path)
    finals = final_returns(frame)
    assert finals.groupby("purpose").size().to_dict() == {"choice": 2 * 2 + 2, "report": 1}
    means = finals[finals["purpose"] == "choice"].groupby("tau")["final_return"].mean()
    report = finals[finals["purpose"] == "report"]
    assert report["tau"].tolist() == [means.idxmax()]
    assert report["seed"].tolist() == [0]
    live = finals["live_units_state_2"]
    assert live.between(0, 3).all()
    assert finals["draw"].tolist() == np.where(live < 3, "dead", "live").tolist()
    # the same command again, and another race on the folder
    before = (raced.path / "sweep.json").read_bytes()
    assert omd.sweep(SOURCE, out=raced.path, progress=False).lanes == raced.lanes
    assert (raced.path / "sweep.json").read_bytes() == before
    other = {**SOURCE, "grid": [{**SOURCE["grid"][0], "race": {**RACE, "more": 2}}]}
    with pytest.raises(omd.InputError, match="with another race"):
        omd.sweep(other, out=raced.path, progress=False)
    # figure 4 shows the report's lanes alone
    figure_4.make(tmp_path, sweeps=[raced.path])
    shown = pd.read_csv(tmp_path / "figure-4.csv")
    assert shown["seed"].tolist() == [0]
    record = json.loads((tmp_path / "figure-4.json").read_text())
    assert record["lanes"] == {"finished": 1, "diverged": 0, "of": 1}
    table = pd.read_csv(tmp_path / "figure-4-aggregates.csv")
    assert set(table["measure"]) == {"final_return", "best_window_return"}


def test_a_race_that_was_stopped_goes_on_to_the_same_numbers(raced, tmp_path, monkeypatch):
    run, path = driver.local.run, tmp_path / "raced"

    def run_two(sweep, *_):
        for one in driver.missing(sweep)[:2]:
            group.run(sweep, one.number)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(driver.local, "run", run_two)
    for count in (2, 4):
        sweep = omd.sweep(SOURCE, out=path, progress=False)
        assert sum(map(sweep.done, sweep.groups)) == count
        assert len(sweep.lanes) == 4
    monkeypatch.setattr(driver.local, "run", run)
    done = omd.sweep(path, progress=False)
    one, other = (final_returns(omd.results(s.path)) for s in (raced, done))
    key = ["model_hidden", "tau", "seed"]
    pd.testing.assert_frame_equal(
        one.sort_values(key, ignore_index=True).drop(columns="lane"),
        other.sort_values(key, ignore_index=True).drop(columns="lane"),
    )


def test_the_budget_is_printed_with_the_plan(in_this_process, capsys):
    tables.show_plan(SOURCE, {}, 1, None)
    shown = capsys.readouterr().out
    assert "7 lanes in" in shown
    assert "race at 1 point: 4 lanes try 2 settings, 2 try" in shown


def test_the_best_window_is_the_highest_mean_of_ten_evaluations(raced):
    frame = omd.results(raced.path)
    lane = frame[frame["lane"] == 0].iloc[:1]
    returns = [1.0] * 5 + [10.0] * 10 + [2.0] * 5
    made = pd.concat([lane.assign(step=i, episode_return=r) for i, r in enumerate(returns)])
    (row,) = final_returns(made).to_dict("records")
    assert row["best_window_return"] == 10.0
    assert row["final_return"] == pytest.approx(6.0)
