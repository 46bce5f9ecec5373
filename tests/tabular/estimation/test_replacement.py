"""Rust's (1987) table IX, group 4, on panels simulated from the published parameters."""

import numpy as np
import pytest

from omd import tabular
from omd.errors import InputError
from omd.tabular import estimation

GROUP_4 = estimation.TABLE_IX["group 4"]
TRUTH = np.asarray([GROUP_4.replacement_cost, GROUP_4.cost])


@pytest.fixture(scope="module")
def model():
    return estimation.bus_engine(GROUP_4.moves)


@pytest.fixture(scope="module")
def policy(model):
    return np.asarray(tabular.solve(model(TRUTH), 1.0).policy)


def panel_of(model, policy, seed):
    # about as many months as group 4 has: 37 buses, 4 329 of them; twice that here
    return estimation.simulate(model(TRUTH), policy, 74, 118, seed=seed)


def test_parameters_are_recovered_within_two_standard_errors(model, policy):
    """In about 95 of 100 panels; 90 or more is what 99.9 % of correct programs show."""
    inside = np.zeros(2, int)
    for seed in range(100):
        panel = panel_of(model, policy, seed)
        found = estimation.estimate(model, panel, [5.0, 1.0])
        assert found.converged, found.message
        errors = found.standard_errors("hessian")
        inside += np.abs(found.theta - TRUTH) <= 2 * errors
    assert (inside >= 90).all(), inside


def test_moves_are_counted(model, policy):
    moves = estimation.increments(panel_of(model, policy, 0))
    np.testing.assert_allclose(moves, GROUP_4.moves, atol=0.02)
    np.testing.assert_allclose(moves.sum(), 1)


def test_the_replacement_probability_by_a_loop_of_its_own(model, policy):
    """Value iteration in NumPy on (keep, replace), to 1e-10, at a smaller discount."""
    moves, bins, beta = np.asarray(GROUP_4.moves) / sum(GROUP_4.moves), 90, 0.99
    cost = 0.001 * TRUTH[1] * np.arange(bins)
    v = np.zeros(bins)
    for _ in range(4000):
        ahead = sum(w * v[np.minimum(np.arange(bins) + j, bins - 1)] for j, w in enumerate(moves))
        keep, replace = -cost + beta * ahead, -TRUTH[0] + beta * ahead[0]
        v = np.logaddexp(keep, replace)
    wanted = 1 / (1 + np.exp(keep - replace))
    mdp = estimation.bus_engine(GROUP_4.moves, discount=beta)(TRUTH)
    np.testing.assert_allclose(tabular.solve(mdp, 1.0).policy[:, 1], wanted, rtol=1e-9)


def test_bad_input(model):
    with pytest.raises(InputError, match="bins must be more than the 3 moves, but is 3"):
        estimation.bus_engine(GROUP_4.moves, bins=3)
    with pytest.raises(InputError, match=r"moves must be probabilities .* but are \[-0.1, 1.1\]"):
        estimation.bus_engine([-0.1, 1.1])
    with pytest.raises(InputError, match=r"theta must be \(RC, θ11\), but has shape \(1,\)"):
        model([1.0])
    back = estimation.Panel(*(np.asarray([[x]]) for x in (5, 0, 3)))
    with pytest.raises(InputError, match="a month takes bins away"):
        estimation.increments(back)
    far = estimation.Panel(*(np.asarray([[x]]) for x in (0, 0, 7)))
    with pytest.raises(InputError, match="a month adds 7 bins"):
        estimation.increments(far)
