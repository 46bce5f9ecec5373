"""Every method inside `shard_map`, where arrays carry a sharding: lanes are spread so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from omd import implicit
from omd.implicit.registry import classes

MATRIX = np.array([[2.0, 0.3], [0.3, 0.7]])
THETA = np.array([0.4, -0.7])


def in_a_lane(function):
    """The function of one array, on the only lane of the only device."""
    lane = PartitionSpec("lane")
    spread = jax.shard_map(
        lambda x: function(x[0])[None],
        mesh=Mesh(jax.devices()[:1], "lane"),
        in_specs=lane,
        out_specs=lane,
        check_vma=False,
    )
    return lambda x: np.asarray(jax.jit(spread)(jnp.asarray(x)[None])[0])


@pytest.mark.parametrize("name", sorted(set(classes()) - {"gauss-newton"}))
def test_method_in_a_sharded_lane(name):
    method = implicit.get(name)

    def gradient(theta):
        w = implicit.root(
            lambda w, theta: MATRIX @ w - theta,
            lambda _, theta: jnp.linalg.solve(MATRIX, theta),
            jnp.zeros(2),
            theta,
            hypergradient=method,
        )
        return jnp.sum(w**2)

    right = np.asarray(jax.grad(gradient)(jnp.asarray(THETA)))
    assert in_a_lane(jax.grad(gradient))(THETA) == pytest.approx(right, rel=1e-5)


def test_gauss_newton_in_a_sharded_lane():
    jacobian = jnp.array([[1.0, 2.0], [0.5, -1.0], [0.0, 3.0]])

    def solve(g):
        problem = implicit.LeastSquares(
            product=lambda v: jacobian.T @ (jacobian @ v),
            push=lambda v: (jacobian @ v)[None],
            pull=lambda z: jacobian.T @ z[0],
            gram=lambda: (jacobian @ jacobian.T)[None],
        )
        return implicit.GaussNewton(damping=0.1).solve(problem, g)[0]

    right = np.linalg.solve(np.asarray(jacobian.T @ jacobian) + 0.1 * np.eye(2), THETA)
    assert in_a_lane(solve)(THETA) == pytest.approx(right, rel=1e-4)
