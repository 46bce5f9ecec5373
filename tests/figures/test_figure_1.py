"""The picture of the README is what its command draws from the stored results."""

import pathlib

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from omd.figures.curves import draw_over_steps
from omd.figures.paper import figure_1

RESULTS = pathlib.Path(__file__).parents[2] / "results" / "sweeps"


def test_figure_1_is_drawn_from_the_stored_sweep(tmp_path):
    figure_1.make(tmp_path, sweeps=[RESULTS / "cpu-figure-4-left"])
    drawn, stored = (
        pd.read_csv(folder / "figure-1.csv") for folder in (tmp_path, RESULTS / "figures")
    )
    pd.testing.assert_frame_equal(drawn, stored)
    assert set(drawn["model_hidden"]) == {2}
    last = drawn.groupby(["objective", "seed"]).tail(10).groupby("objective")["episode_return"]
    table = pd.read_csv(RESULTS / "figures" / "figure-4-aggregates.csv")
    table = table[(table["measure"] == "final_return") & (table["draws"] == "all")]
    for objective, value in last.mean().items():
        row = table[(table["objective"] == objective) & (table["model_hidden"] == 2)]
        assert value == pytest.approx(row["mean"].item(), abs=0.5)


def test_a_median_is_not_moved_by_an_outlier_and_its_band_is_the_quartiles():
    values = [1.0, 2.0, 3.0, 4.0, 1e9]
    rows = [
        {"sweep": 0, "lane": lane, "step": step, "x": value}
        for step in (0, 10)
        for lane, value in enumerate(values)
    ]
    axes = Figure().subplots()
    draw_over_steps(axes, pd.DataFrame(rows), "x", "red", "x", 1, centre="median")
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [3.0, 3.0])
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (2.0, 4.0)
