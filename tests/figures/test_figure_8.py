import csv
import types

import numpy as np
import pandas as pd
import pytest

from omd.analysis.frames import results
from omd.config import Config
from omd.errors import InputError
from omd.figures.paper import figure_8
from omd.runs import files, stored
from omd.runs.run import load
from omd.settings import resolve
from omd.sweeps import race
from omd.types import EnvSpec


@pytest.fixture
def run(tmp_path):
    """A run folder whose return is a known function of seed and step."""

    def make(name, seeds=(0, 1), offset=0.0, until=100, **settings):
        asked = Config(
            env="HalfCheetah-v5",
            seeds=seeds,
            steps=100,
            random_steps=20,
            evaluate_every=5,
            **{"batch_size": 16, **settings},
        )
        config = resolve(asked, EnvSpec("HalfCheetah-v5", 17, None, 6, (-1.0,) * 6, (1.0,) * 6))
        folder = tmp_path / name
        folder.mkdir()
        files.write_json(folder / "config.json", stored.to_json(config))
        rows = [
            {
                "lane": i,
                "seed": seed,
                "step": step,
                "diverged": False,
                "episode_return": offset + seed + step,
            }
            for i, seed in enumerate(config.seed_list)
            for step in range(0, until + 1, 5)
        ]
        files.write_frame(folder / "metrics.parquet", pd.DataFrame(rows))
        return folder

    return make


def test_points_are_means_of_the_last_ten_evaluations(run, tmp_path, monkeypatch):
    runs = [
        run("a", objective="omd"),
        run("b", objective="omd", model_hidden=3, offset=-10.0),
        run("c", objective="omd", distractors=32, until=80),
        run("d", objective="mle", offset=5.0),
        run("e", objective="none", offset=7.0),
    ]
    drawn = []
    real = figure_8._points
    monkeypatch.setattr(
        figure_8, "_points", lambda axes, *rest: (real(axes, *rest), drawn.append(axes))
    )
    paths = figure_8.make(tmp_path / "out", runs=runs)
    assert sorted(p.suffix for p in paths) == [".csv", ".json", ".pdf", ".png"]
    with (tmp_path / "out" / "figure-8.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "panel",
        "objective",
        "model_hidden",
        "distractors",
        "seed",
        "step",
        "episode_return",
    ]
    points = {(r["panel"], r["objective"], r["model_hidden"], r["distractors"]) for r in rows}
    assert points == {
        ("left", "omd", "64", "0"),
        ("left", "omd", "3", "0"),
        ("left", "mle", "64", "0"),
        ("right", "omd", "64", "0"),
        ("right", "omd", "64", "32"),
        ("right", "mle", "64", "0"),
        ("left", "none", "", "0"),
        ("right", "none", "", "0"),
    }
    # steps 55, 60, …, 100 of seeds 0 and 1
    left = {c.get_label(): c for c in drawn[0].containers}
    np.testing.assert_allclose(left["OMD"].lines[0].get_ydata(), [68, 78])
    np.testing.assert_allclose(left["MLE"].lines[0].get_ydata(), [83])
    right = {c.get_label(): c for c in drawn[1].containers}
    np.testing.assert_allclose(right["OMD"].lines[0].get_ydata(), [78, 58])


def test_settings_that_objectives_don_t_share_are_told(run):
    runs = [
        run("a", inner_learning_rate=1e-3, hypergradient="gauss-newton"),
        run("b", objective="mle", learning_rate=1e-4),
        run("c", objective="none"),
    ]
    notes = figure_8._settings_noted(figure_8._frame([load(folder) for folder in runs]))
    assert notes == (
        " inner learning rate: 0.0003 (MLE and SAC, no model); 0.001 (OMD)."
        " learning rate: 0.0001 (MLE); 0.0003 (OMD). hypergradient: gauss-newton (OMD)."
    )


def test_runs_that_don_t_go_together_are_refused(run, tmp_path):
    first = run("a")
    with pytest.raises(InputError, match="batch_size differs between the runs"):
        figure_8.make(tmp_path / "out", runs=[first, run("b", objective="mle", batch_size=8)])
    with pytest.raises(InputError, match=r"tau differs between the runs of objective 'omd' \(0.0"):
        figure_8.make(tmp_path / "out", runs=[first, run("d", distractors=32, tau=0.1)])
    with pytest.raises(InputError, match=r"seed 1 of objective 'omd'.* is in two runs"):
        figure_8.make(tmp_path / "out", runs=[first, run("c", seeds=(1, 2))])
    with pytest.raises(InputError, match="figure 8 and --run FOLDER go together"):
        figure_8.make(tmp_path / "out", runs=[])
    assert not (tmp_path / "out").exists()


@pytest.mark.stand_ins
def test_a_race_is_drawn_with_a_curve_for_each_hypergradient(run, tmp_path, monkeypatch):
    lanes = {
        "identity": {"hypergradient": "identity"},
        "raced": {"hypergradient": "gauss-newton", "offset": 9.0, "learning_rate": 1e-4},
        "chose": {"hypergradient": "gauss-newton", "offset": 99.0},
        "mle": {"objective": "mle"},
    }
    found = []
    for number, (name, settings) in enumerate(lanes.items()):
        one = results(run(name, seeds=(0,), **settings)).assign(lane=number)
        found.append(one.assign(purpose="choice" if name == "chose" else "report"))
    monkeypatch.setattr(figure_8, "results", lambda _: pd.concat(found, ignore_index=True))
    monkeypatch.setattr(figure_8, "Sweep", lambda _: sweep)
    point = types.SimpleNamespace(race=race.Race(("learning_rate",), 1, 1, 1))
    sweep = types.SimpleNamespace(
        path=tmp_path, points=[point], lanes=[0] * 5, name="raced", about="", provenance={}
    )
    drawn, noted = [], []
    real, caption = figure_8._points, figure_8.caption
    monkeypatch.setattr(
        figure_8, "_points", lambda axes, *rest: (real(axes, *rest), drawn.append(axes))
    )
    monkeypatch.setattr(figure_8, "caption", lambda f, text: (noted.append(text), caption(f, text)))
    figure_8.make(tmp_path / "out", sweeps=[tmp_path])
    left = {c.get_label(): c.lines[0].get_ydata() for c in drawn[0].containers}
    # steps 55, 60, …, 100
    assert left.keys() == {"OMD, identity", "OMD, gauss-newton", "MLE"}
    np.testing.assert_allclose([left[k][0] for k in sorted(left)], [77.5, 86.5, 77.5])
    assert "learning rate: chosen at each point by a race" in noted[0]
    assert "Unfinished: 1 lanes of raced" in noted[0]
