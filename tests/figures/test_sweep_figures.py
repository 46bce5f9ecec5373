import csv
import json
import os

import numpy as np
import pandas as pd
import pytest

import omd
from omd.analysis import claims
from omd.figures import figure_compare as compare
from omd.figures import overview
from omd.figures.paper import figure_4, figure_5, figure_7, figure_claims
from omd.figures.paper import swept as sweeps
from omd.reports import page
from omd.reports.paper_settings import differences
from omd.sweeps.store import Sweep
from omd.sweeps.trained import Trained

BASE = {
    "hidden": 8,
    "batch_size": 16,
    "random_steps": 50,
    "steps": 200,
    "evaluate_every": 100,
    "evaluate_episodes": 2,
    "seeds": 2,
}
GRIDS = [
    {"objective": ["omd", "mle"], "model_hidden": [1, 3]},
    {"objective": "omd", "hypergradient": "cg:max_steps=2", "model_hidden": 3},
    {"objective": "omd", "critics": 1, "model_hidden": 3},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished sweep that figures 4, 5 and 7 can be drawn from."""
    path = tmp_path_factory.mktemp("sweeps") / "mine"
    omd.sweep({"base": BASE, "grid": GRIDS}, out=path, workers=2, progress=False)
    return path


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def check(out, number, paths, columns):
    assert {p.parent for p in paths} == {out}
    assert (out / f"figure-{number}.png").read_bytes().startswith(b"\x89PNG")
    assert (out / f"figure-{number}.pdf").read_bytes().startswith(b"%PDF")
    found = rows(out / f"figure-{number}.csv")
    assert ",".join(found[0]) == columns
    record = json.loads((out / f"figure-{number}.json").read_text())
    assert record["settings"]["steps"] == 200
    assert record["lanes"] == {"finished": 12, "diverged": 0, "of": 12}
    assert os.sep + "tmp" not in json.dumps(record)
    return found


def test_figure_4(folder, tmp_path):
    paths = figure_4.make(tmp_path, budget="smoke", sweeps=[folder])
    found = check(
        tmp_path,
        4,
        paths,
        "panel,objective,model_hidden,distractors,seed,inner_learning_rate,tau,final_return,"
        "best_window_return,draw",
    )
    assert {r["panel"] for r in found} == {"left"}
    frame = omd.results(folder)
    mine = frame[
        (frame["objective"] == "mle") & (frame["model_hidden"] == 1) & (frame["seed"] == 1)
    ]
    value = [
        r for r in found if (r["objective"], r["model_hidden"], r["seed"]) == ("mle", "1", "1")
    ]
    assert float(value[0]["final_return"]) == pytest.approx(mine["episode_return"].mean())
    table = rows(tmp_path / "figure-4-aggregates.csv")
    assert {"mean", "standard_error", "interquartile_mean", "mean_low"} <= set(table[0])
    outcome = rows(tmp_path / "figure-4-claims.csv")
    assert {r["at"] for r in outcome} == {"width 1", "width 3"}


def test_figure_5_reads_the_trained_models(folder, tmp_path):
    paths = figure_5.make(tmp_path, budget="smoke", sweeps=[folder])
    found = check(tmp_path, 5, paths, "objective,model_hidden,seed,step,model_mse,episode_return")
    assert {r["objective"] for r in found} == {"omd", "mle", "random"}
    predicted = pd.read_csv(tmp_path / "figure-5-predictions.csv")
    assert set(predicted["source"]) == {"true", "omd", "mle"}
    assert set(predicted["coordinate"]) == {0, 1, 2, 3}
    assert np.isfinite(predicted["next_state"]).all()


def test_a_lane_read_back_acts_and_predicts_as_it_was_trained(folder):
    sweep = Sweep(folder)
    frame = omd.results(folder)
    lane = Trained(sweep, 2)
    assert lane.config == sweep.lanes[2]
    episode = lane.episode(seed=3)
    assert episode.observations.shape == episode.next_observations.shape
    np.testing.assert_array_equal(episode.observations[1:], episode.next_observations[:-1])
    assert episode.rewards.sum() == len(episode.actions)
    error = np.square(lane.predict(episode) - episode.next_observations).sum(axis=1).mean()
    last = frame[frame["lane"] == 2]["model_mse"].iloc[-1]
    assert error == pytest.approx(last, rel=5)  # the same model, on other states
    again = Trained(sweep, 2).episode(seed=3)
    np.testing.assert_array_equal(again.observations, episode.observations)


def test_figure_7(folder, tmp_path):
    frame = omd.results(folder)
    paths = figure_7.make(tmp_path, budget="smoke", sweeps=[folder])
    found = check(tmp_path, 7, paths, "variant,seed,step,episode_return")
    assert {r["variant"] for r in found} == {"default", "cg", "single Q"}
    assert len(found) == len(frame)


def test_captions_name_the_lanes_that_diverged(folder):
    data = sweeps.load(7, {}, "smoke", [folder])
    assert "iverged" not in sweeps.describe(data, data.finals)
    lost = (data.finals["objective"] == "omd") & (data.finals["seed"] == 1)
    chosen = data.finals.assign(status=np.where(lost, "diverged", "finished"))
    assert "Diverged, and shown: 4 of 12 lanes (omd 4)." in sweeps.describe(data, chosen)
    variants = np.where(chosen["critics"] == 1, "single Q", "default")
    assert "(default 3, single Q 1)" in sweeps.describe(data, chosen.assign(variant=variants))


def test_the_best_setting_is_chosen_at_each_point():
    finals = pd.DataFrame(
        [
            {"objective": o, "inner_learning_rate": lr, "tau": 0.01, "seed": s, "final_return": r}
            for o, lr, returns in (
                ("omd", 1e-3, (1.0, 9.0)),
                ("omd", 3e-3, (4.0, 7.0)),
                ("mle", 1e-3, (2.0, 2.0)),
            )
            for s, r in enumerate(returns)
        ]
    )
    chosen = sweeps.best(finals, ["objective"])
    omd_rows = chosen[chosen["objective"] == "omd"]
    assert omd_rows["final_return"].tolist() == [4.0, 7.0]
    assert len(chosen) == 4


def test_claims_say_what_the_intervals_say():
    def returns(objective, values, **columns):
        return [
            {
                "objective": objective,
                "distractors": 0,
                "model_hidden": 1,
                "final_return": v,
                "initial_return": 20.0,
                **columns,
            }
            for v in values
        ]

    frame = pd.DataFrame(
        returns("omd", [400, 410, 420, 430])
        + returns("mle", [100, 110, 105, 95])
        + returns("omd", [90, 120, 60], distractors=64)
        + returns("mle", [300, 310, 320], distractors=64)
        + returns("vep", [19, 22, 18, 21], distractors=64)
    )
    found = {(r["claim"], r["at"]): r for r in claims.of_figure(frame, 4)}
    small = found["OMD above MLE with small models", "width 1"]
    assert small["estimate"] == pytest.approx(312.5)
    assert small["low"] > 0
    assert small["outcome"] == "holds"
    noisy = found["OMD above MLE with many distractors", "64 distractors"]
    assert noisy["outcome"] == "contradicted"
    assert found["VEP fails with many distractors", "64 distractors"]["outcome"] in (
        "holds",
        "not contradicted",
    )
    assert "| width 1 | return, OMD − MLE | 312 [" in claims.markdown(list(found.values()))


def test_the_table_of_claims_has_both_measures_and_what_was_not_run(tmp_path):
    settings = {
        "env": "CartPole-v1",
        "distractors": 0,
        "inner_steps": 1,
        "critics": 2,
        "model_output": "state",
        "hypergradient": "identity",
    }
    frame = pd.DataFrame(
        [
            {
                **settings,
                "objective": objective,
                "model_hidden": 1,
                "final_return": value,
                "best_window_return": best,
                "initial_return": 20.0,
                "final_model_mse": error,
                "random_model_mse": 1.0,
                "source": "mine",
            }
            for objective, value, best, error in (
                ("omd:start=warm", 90.0, 400.0, 10.0),
                ("omd:start=warm", 110.0, 410.0, 100.0),
                ("mle", 100.0, 130.0, 0.1),
                ("mle", 100.0, 120.0, 0.1),
            )
        ]
    )
    found = {(r["claim"], r["at"]): r for r in claims.table(frame)}
    assert len(found) == sum(len(claim.points) for claim in claims.CLAIMS)
    one = found["OMD above MLE with small models", "width 1"]
    assert (one["estimate"], one["best_window_estimate"], one["seeds"]) == (0, 280, 2)
    assert (one["outcome"], one["best_window_outcome"]) == ("undecided", "holds")
    assert one["source"] == "mine"
    error = found["OMD's model less likely than a random one", "width 1"]
    assert error["estimate"] == pytest.approx(1.5)
    assert error["best_window_estimate"] is None
    absent = found["OMD above MLE with many distractors", "512 distractors"]
    assert (absent["outcome"], absent["seeds"]) == ("undecided (not run)", 0)
    assert set(r["outcome"].partition(" (")[0] for r in found.values()) <= {
        "holds",
        "contradicted",
        "undecided",
    }
    text = claims.write(list(found.values()), tmp_path, "claims")[1].read_text()
    assert len(text.splitlines()) == len(found) + 2
    with pytest.raises(omd.InputError, match="give --sweep FOLDER or --run FOLDER"):
        figure_claims.make(tmp_path)


def test_the_comparison_is_drawn_from_sweeps(folder, tmp_path, monkeypatch):
    with pytest.raises(omd.InputError, match="give --sweep FOLDER"):
        compare.make(tmp_path)
    with pytest.raises(omd.InputError, match="at width 3 differ in hypergradient"):
        compare.make(tmp_path, sweeps=[folder])
    data = sweeps.load("compare", {}, "paper", [folder])
    one = (data.finals["hypergradient"] == "identity") & (data.finals["critics"] == 2)
    monkeypatch.setattr(compare, "load", lambda *_: data._replace(finals=data.finals[one]))
    paths = compare.make(tmp_path, sweeps=[folder])
    assert all(p.stat().st_size for p in paths)
    assert len(rows(tmp_path / "compare.csv")) == 8
    assert {r["objective"] for r in rows(tmp_path / "compare-aggregates.csv")} == {"omd", "mle"}
    scores = np.load(tmp_path / "compare-rliable.npz")
    assert scores["mle"].shape == (2, 2)
    record = json.loads((tmp_path / "compare.json").read_text())
    assert record["scale"]["CartPole-v1"]["one"] > record["scale"]["CartPole-v1"]["zero"]


def test_figures_refuse_what_they_cannot_draw(folder, tmp_path):
    with pytest.raises(omd.InputError, match=r"unknown budget 'papr'.*paper"):
        figure_4.make(tmp_path, budget="papr", sweeps=[folder])
    with pytest.raises(omd.InputError, match="is no sweep"):
        figure_7.make(tmp_path, sweeps=[tmp_path])
    assert not list(tmp_path.iterdir())


def test_what_differs_from_the_paper_is_said():
    assert differences({"steps": 200_000, "tau": [0.005, 0.01], "inner_learning_rate": 1e-3}) == [
        "inner_learning_rate: the paper's grid also has 0.0003, 0.003"
    ]
    assert differences({"precision": "float32", "steps": [5, 200_000]}) == [
        "steps is 5 here; the paper has 200000",
        "precision is float32 here; the authors' program has float64",
    ]
    # settings of parts, also those that a file of an older version has beside them
    default = "omd:start=warm,constraint_target=last,outer_batch=same"
    said = ["constraint_target is last here; the authors' program has moved"]
    assert differences({"objective": default, "learner": "soft-q:operator=soft"}) == said
    assert differences({"objective": ["omd", "mle"], "constraint_target": ["moved"]}) == []
    assert differences({"objective": ["mle", "vep:values=3"]}) == [
        "vep_values is 3 here; the paper has 5"
    ]


def test_the_report_of_a_sweep_needs_nothing_else(folder, tmp_path):
    path = page.write(folder, tmp_path / "page.html")
    text = path.read_text()
    assert text.count('<img src="data:image/png;base64,') == 1
    assert "12 finished" in text
    assert "steps is 200 here; the paper has 200000" in text
    assert "http" not in text.replace("http-equiv", "")
    with pytest.raises(omd.InputError, match=r"no sweep\.json and no figure"):
        page.write(tmp_path)


def test_dollars_in_a_stored_name_are_no_tex():
    frame = pd.DataFrame({"objective": ["$\\frac{$"] * 2, "final_return": [1.0, 2.0]})
    assert overview.draw(frame, ["objective"]).startswith(b"\x89PNG")
