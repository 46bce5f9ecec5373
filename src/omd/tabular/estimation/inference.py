"""What an estimate's precision means for anything computed from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.stats import norm

from omd.errors import InputError
from omd.tabular.estimation.maximum import Errors, Estimate


class Interval(NamedTuple):
    """A number computed from an estimate, with its standard error; arrays like the number."""

    value: Float[np.ndarray, " ..."]
    standard_error: Float[np.ndarray, " ..."]
    low: Float[np.ndarray, " ..."]
    high: Float[np.ndarray, " ..."]


def delta_interval(
    function: Callable[[Float[Array, " K"]], Array],
    found: Estimate,
    *,
    kind: Errors = "sandwich",
    level: float | int = 0.95,
) -> Interval:
    """function(θ) at an estimate, such as a counterfactual, with an interval by the delta method.

    The variance is G Σ Gᵀ with G = ∂function/∂θ by forward mode and Σ the covariance of `kind`.
    Raises `InputError` for a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, but is {level}.")
    with jax.enable_x64(True):
        theta = jnp.asarray(found.theta)
        value = np.asarray(function(theta))
        slope = np.asarray(jax.jacfwd(function)(theta))
    error = np.sqrt(np.einsum("...k,kl,...l->...", slope, found.covariance(kind), slope))
    reach = norm.ppf(0.5 + level / 2) * error
    return Interval(value, error, value - reach, value + reach)
