import csv

import numpy as np
import pandas as pd
import pytest

from omd.config import Config
from omd.errors import InputError
from omd.figures.paper import figure_8
from omd.runs import files, stored
from omd.runs.run import load
from omd.settings import resolve
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
    with pytest.raises(InputError, match="no run with an evaluation"):
        figure_8.make(tmp_path / "out", runs=[])
    assert not (tmp_path / "out").exists()
