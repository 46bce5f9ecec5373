import jax.numpy as jnp
import numpy as np
import pytest

from omd.implicit import Status
from omd.tabular.elimination import Elimination, eliminate


def system(size, kind, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "definite":
        root = rng.normal(size=(size, size))
        return root.T @ root + 0.1 * np.eye(size), rng.normal(size=size)
    matrix = np.eye(size) - 0.99 * rng.dirichlet(np.full(size, 0.3), size=size)
    return (matrix if kind == "chain" else matrix.T), rng.normal(size=size)


@pytest.mark.parametrize("kind", ["chain", "transposed chain", "definite"])
@pytest.mark.parametrize("size", [1, 2, 4, 7])
def test_against_lapack(size, kind):
    matrix, right = system(size, kind)
    np.testing.assert_allclose(
        eliminate(jnp.asarray(matrix), jnp.asarray(right)),
        np.linalg.solve(matrix, right),
        rtol=1e-10,
    )


def test_as_a_method():
    matrix, right = system(4, "chain")
    g = {"a": jnp.asarray(right[:1]), "b": jnp.asarray(right[1:])}

    def vjp(v):
        image = jnp.concatenate([v["a"], v["b"]]) @ matrix
        return {"a": image[:1], "b": image[1:]}

    u, report = Elimination().solve(vjp, g)
    expected = np.linalg.solve(matrix.T, right)
    np.testing.assert_allclose(np.concatenate([u["a"], u["b"]]), expected, rtol=1e-12)
    assert report.status == Status.CONVERGED


def test_a_singular_jacobian_is_noticed():
    _, report = Elimination().solve(lambda v: jnp.zeros_like(v), jnp.ones(3))
    assert report.status == Status.NON_FINITE
