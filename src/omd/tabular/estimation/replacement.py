"""Rust's (1987) model of bus engine replacement, with the parameters that he published."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from omd.errors import InputError
from omd.tabular.checks import check_count, real_array
from omd.tabular.estimation.panel import Panel
from omd.tabular.kernels import Numbers, Successors
from omd.tabular.parametric import Parametrised


class Published(NamedTuple):
    """A column of table IX: 90 bins of 5 000 miles, β = 0.9999, linear cost."""

    replacement_cost: float
    cost: float
    """θ11: c(x) = 0.001 · θ11 · x."""
    moves: tuple[float, float, float]
    """Probabilities of 0, 1 and 2 bins more a month."""


TABLE_IX = {
    "group 4": Published(10.0750, 2.2930, (0.3919, 0.5953, 0.0128)),
}


def bus_engine(moves: Numbers, *, bins: int = 90, discount: float = 0.9999) -> Parametrised:
    """theta = (RC, θ11) -> the MDP: keep at cost 0.001 · θ11 · bin, or replace at cost RC.

    State: bins of mileage, the last of which keeps all above. `moves`[j] is the probability that
    a month adds j bins; a replaced engine starts at bin 0 and moves in the same month. To be
    solved at temperature 1. Raises `InputError` without enough bins.
    """
    weights = np.asarray(real_array("moves", moves), float)
    if weights.ndim != 1 or not ((weights >= 0).all() and 0 < weights.sum() < np.inf):
        raise InputError(
            f"moves must be probabilities of 0, 1, … bins more, but are {weights.tolist()}; give "
            "numbers that are not negative."
        )
    check_count("bins", bins)
    if bins <= weights.size:
        raise InputError(f"bins must be more than the {weights.size} moves, but is {bins}.")
    steps = np.arange(weights.size)
    keep = np.minimum(np.arange(bins)[:, None] + steps, bins - 1)
    index = np.stack([keep, np.broadcast_to(steps, keep.shape)], axis=1)
    probability = np.broadcast_to(weights / weights.sum(), index.shape)
    transition = Successors(index.astype(np.int32), probability)
    start = np.eye(1, bins)[0]
    return Parametrised(_Costs(transition), discount, start)


class _Costs(eqx.Module):
    """A pytree, so that one program serves all models with so many bins."""

    transition: Successors

    def __call__(self, theta: Numbers) -> tuple[Successors, Float[Array, "S 2"]]:
        if np.shape(theta) != (2,):
            raise InputError(f"theta must be (RC, θ11), but has shape {np.shape(theta)}.")
        replacement, slope = jnp.asarray(theta)
        bins = self.transition.shape[0]
        keep = -0.001 * slope * jnp.arange(bins)
        both = [keep, jnp.broadcast_to(-replacement, (bins,))]
        return self.transition, jnp.stack(both, axis=1)


def increments(panel: Panel, count: int = 3) -> Float[np.ndarray, " J"]:
    """Shares of months that add 0, 1, …, count − 1 bins: the likeliest `moves` of a panel.

    After a replacement, action 1, the month's mileage counts from bin 0. Months that end in a
    last bin, where steps are cut off, should be left out before.
    """
    added = panel.next_state - np.where(panel.action == 1, 0, panel.state)
    if (added < 0).any():
        raise InputError(
            "a month takes bins away: next_state lies below state without a replacement (action "
            "1); correct the data."
        )
    seen = np.bincount(np.ravel(added), minlength=count)
    if seen.size > count:
        raise InputError(
            f"a month adds {seen.size - 1} bins, but only up to {count - 1} are asked for; "
            "raise count."
        )
    return seen / seen.sum()
