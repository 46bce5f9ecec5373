"""What an estimate says of a policy's return, beside the same worked out with NumPy."""

import jax
import numpy as np

from omd import tabular
from omd.tabular import estimation

P = np.array([[[0.7, 0.3], [0.99, 0.01]], [[0.2, 0.8], [0.99, 0.01]]])
FEATURES = np.random.default_rng(0).normal(size=(2, 2, 2))


POLICY = np.array([[0.3, 0.7], [0.6, 0.4]])


def by_hand(theta):
    chain = np.einsum("sa,sat->st", POLICY, P)
    return np.linalg.solve(np.eye(2) - 0.9 * chain, (POLICY * (FEATURES @ theta)).sum(axis=1))


def test_a_return_has_an_interval():
    with jax.enable_x64(True):
        model = tabular.linear_rewards(tabular.MDP(P, np.zeros((2, 2)), 0.9), FEATURES)
        theta, curvature = np.array([0.5, -0.3]), np.array([[4.0, 1.0], [1.0, 3.0]])
        found = estimation.Estimate(
            theta, 0.0, np.zeros(2), -curvature, curvature, 0, converged=True, message=""
        )
        interval = estimation.delta_interval(
            lambda theta: tabular.expected_return(model(theta), POLICY), found, kind="hessian"
        )
    slope = np.array([by_hand(d).mean() for d in np.eye(2)])  # linear in theta
    np.testing.assert_allclose(interval.value, by_hand(theta).mean(), rtol=1e-12)
    wanted = np.sqrt(slope @ np.linalg.inv(curvature) @ slope)
    np.testing.assert_allclose(interval.standard_error, wanted, rtol=1e-12)
