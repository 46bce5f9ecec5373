import numpy as np
import pytest
import scipy.stats

from omd.analysis import statistics


def test_intervals_are_the_quantiles_at_two_and_a_half_and_ninety_seven_and_a_half_percent():
    values = np.random.default_rng(3).normal(5, 2, 400)
    found = statistics.interval(values)
    # of a mean of many values: normal, with the standard deviation that resampling has
    normal = scipy.stats.norm(values.mean(), values.std() / 20)
    width = normal.ppf(0.975) - normal.ppf(0.025)
    assert found.estimate == values.mean()
    assert found.high - found.low == pytest.approx(width, rel=0.04)
    assert found.low == pytest.approx(normal.ppf(0.025), abs=0.03 * width)


def test_the_interquartile_mean_is_that_of_the_middle_half():
    values = np.array([100.0, 1, 2, 3, 4, 5, 6, -50])
    assert statistics.interquartile_mean(values) == 3.5
    assert statistics.interquartile_mean(values[:3]) == 103 / 3  # a quarter of three is none
