"""What many seeds say together: means, interquartile means, and bootstrap confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import ArrayLike

from omd.errors import InputError

LEVEL = 0.95
RESAMPLES = 9999


class Interval(NamedTuple):
    """An estimate with its percentile-bootstrap confidence interval of `LEVEL`."""

    estimate: float
    low: float
    high: float


def interquartile_mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean of the middle half: a quarter of the values, rounded down, is cut at either end."""
    return np.asarray(scipy.stats.trim_mean(values, 0.25, axis=axis))


def interval(values: ArrayLike, of: Callable[..., np.ndarray] = np.mean) -> Interval:
    """`of` the values; NaN at both ends where a single value can't tell. The seed is fixed."""
    return _bootstrap((np.asarray(values, float),), of)


def difference(
    one: ArrayLike, other: ArrayLike, of: Callable[..., np.ndarray] = np.mean
) -> Interval:
    """`of` one minus `of` the other, which are independent samples."""

    def between(a, b, axis=-1):
        return of(a, axis=axis) - of(b, axis=axis)

    return _bootstrap((np.asarray(one, float), np.asarray(other, float)), between)


def _bootstrap(samples: tuple[np.ndarray, ...], of: Callable[..., np.ndarray]) -> Interval:
    if any(sample.size == 0 for sample in samples):
        return Interval(math.nan, math.nan, math.nan)
    estimate = float(of(*samples, axis=-1))
    if any(sample.size < 2 for sample in samples):
        return Interval(estimate, math.nan, math.nan)
    found = scipy.stats.bootstrap(
        samples,
        of,
        confidence_level=LEVEL,
        n_resamples=RESAMPLES,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(estimate, float(found.low), float(found.high))


def standard_error(values: ArrayLike) -> float:
    """Of the mean; NaN for fewer than two values."""
    array = np.asarray(values, float)
    return float(array.std(ddof=1) / math.sqrt(array.size)) if array.size > 1 else math.nan


def aggregate(frame: pd.DataFrame, by: Sequence[str], value: str = "final_return") -> pd.DataFrame:
    """One row for each combination of the columns `by`: count, mean ± standard error with its
    interval, interquartile mean with its own. Raises `InputError` for an unknown column."""
    for name in (*by, value):
        if name not in frame:
            raise InputError(f"no column {name!r}: there are {', '.join(frame.columns)}")
    rows = []
    for key, part in frame.groupby(list(by), sort=True, dropna=False):
        values = part[value].to_numpy(float)
        mean, iqm = interval(values), interval(values, interquartile_mean)
        rows.append(
            {
                **dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True)),
                "count": values.size,
                "mean": mean.estimate,
                "standard_error": standard_error(values),
                "mean_low": mean.low,
                "mean_high": mean.high,
                "interquartile_mean": iqm.estimate,
                "interquartile_low": iqm.low,
                "interquartile_high": iqm.high,
            }
        )
    return pd.DataFrame(rows)
