import jax
import numpy as np
import pytest

from omd import tabular
from omd.errors import InputError


def test_linear_rewards_are_features_times_parameters():
    mdp = tabular.garnet(0, 6, 3, 2)
    features = np.random.default_rng(0).normal(size=(6, 3, 2))
    model = tabular.linear_rewards(mdp, features)
    np.testing.assert_allclose(model([2.0, -1.0]).reward, features @ [2.0, -1.0], rtol=1e-14)

    def start(theta):
        return mdp.initial @ tabular.solve(model(theta), 0.1).v

    theta, step = np.asarray([0.3, 0.4]), 1e-6
    slope = jax.jit(jax.grad(start))(theta)
    for k in range(2):
        e = step * np.eye(2)[k]
        difference = (start(theta + e) - start(theta - e)) / (2 * step)
        np.testing.assert_allclose(slope[k], difference, rtol=1e-6)
    forward = jax.jit(jax.jacfwd(start))(theta)
    np.testing.assert_allclose(forward, slope, rtol=1e-10)


def test_second_derivatives_in_both_orders():
    mdp = tabular.garnet(1, 6, 3, 2)
    model = tabular.linear_rewards(mdp, np.random.default_rng(1).normal(size=(6, 3, 2)))

    def start(theta):
        return mdp.initial @ tabular.solve(model(theta), 0.5).v

    theta, step, slope = np.asarray([0.3, 0.4]), 1e-4, jax.jit(jax.grad(start))
    wanted = np.stack(
        [(slope(theta + step * e) - slope(theta - step * e)) / (2 * step) for e in np.eye(2)]
    )
    for way in (jax.jacfwd(jax.grad(start)), jax.jacrev(jax.jacfwd(start)), jax.hessian(start)):
        np.testing.assert_allclose(jax.jit(way)(theta), wanted, rtol=1e-6)


def test_rows_that_do_not_sum_to_one_are_said_with_state_and_action():
    def build(theta):
        rows = np.full((3, 2, 3), 1 / 3)
        rows[2, 1, 0] += theta[0]
        return rows, np.zeros((3, 2))

    model = tabular.Parametrised(build, 0.9)
    assert model.check([0.0]).num_states == 3
    with pytest.raises(InputError, match=r"\(state, action\) = \(2, 1\) sums to 1.2\d* and not"):
        model([0.25])


def test_bad_models():
    mdp = tabular.garnet(0, 6, 3, 2)
    with pytest.raises(InputError, match=r"features have shape \(6, 2\)"):
        tabular.linear_rewards(mdp, np.zeros((6, 2)))
    broken = np.ones((6, 3, 1))
    broken[0, 1] = np.nan
    with pytest.raises(InputError, match=r"features\(0, 1, 0\) is nan"):
        tabular.linear_rewards(mdp, broken)
    with pytest.raises(InputError, match=r"theta has shape \(2,\) where there are 1 features"):
        tabular.linear_rewards(mdp, np.ones((6, 3, 1)))([1.0, 2.0])
    with pytest.raises(InputError, match=r"must return \(transition, reward\)"):
        tabular.Parametrised(lambda theta: theta, 0.9)([1.0])
