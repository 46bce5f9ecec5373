"""The table of `docs/from-jaxopt.md`, row by row; tests/test_site.py runs its code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import implicit


def test_rows_of_the_migration_table():
    jaxopt = pytest.importorskip("jaxopt")
    matrix = jnp.array([[2.0, 0.3], [0.3, 1.0]])
    theta, v = jnp.array([0.3, 0.4]), jnp.array([1.0, -2.0])
    w = jnp.linalg.solve(matrix, theta)

    def constraint(w, theta):
        return matrix @ w - theta

    def solver(init, theta):
        return jnp.linalg.solve(matrix, theta)

    want = np.linalg.inv(matrix)
    old = jaxopt.implicit_diff
    pairs = {
        "solve_cg": implicit.CG(rtol=1e-8),
        "solve_normal_cg": implicit.NormalCG(rtol=1e-8),
        "solve_gmres": implicit.GMRES(rtol=1e-8),
        "solve_lu": implicit.Dense(),
    }
    for name, new in pairs.items():
        solve = getattr(jaxopt.linear_solve, name)
        for decorated in (
            old.custom_root(constraint, solve=solve)(solver),
            implicit.custom_root(constraint, solve=new)(solver),
            implicit.custom_root(constraint, solve=solve)(solver),
        ):
            found = jax.jacrev(decorated, argnums=1)(jnp.zeros(2), theta)
            np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)

    def operator(w, theta):
        return w - 0.3 * constraint(w, theta)

    for decorate in (old.custom_fixed_point, implicit.custom_fixed_point):
        found = jax.jacrev(decorate(operator)(solver), argnums=1)(jnp.zeros(2), theta)
        np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-4)

    (before,) = old.root_vjp(constraint, w, (theta,), v)
    after, _ = implicit.hypergradient(lambda w, *_: w @ v, constraint, w, theta)
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4)

    point = jnp.array([0.6, 0.9, -1.3])
    for ours, theirs in (
        (implicit.projections.simplex, jaxopt.projection.projection_simplex),
        (implicit.projections.ball, jaxopt.projection.projection_l2_ball),
        (
            lambda p: implicit.projections.box(p, -1.0, 0.7),
            lambda p: jaxopt.projection.projection_box(p, (-1.0, 0.7)),
        ),
    ):
        np.testing.assert_allclose(ours(point), theirs(point), rtol=1e-6)
        np.testing.assert_allclose(
            jax.jacobian(ours)(point), jax.jacobian(theirs)(point), atol=1e-6
        )

    def equality(x, _):
        return jnp.array([jnp.sum(x) - 1.0])

    def inequality(x, _):
        return -x

    ours = implicit.kkt(lambda x, t: x @ matrix @ x / 2 - t @ x, equality, inequality)
    x, nu, lam = jnp.array([0.2, 0.8]), jnp.array([0.5]), jnp.array([0.1, 0.0])
    h = ours(implicit.KKT(x, nu, lam), theta)
    np.testing.assert_allclose(h.primal, matrix @ x - theta + 0.5 - lam, rtol=1e-6)
    np.testing.assert_allclose(h.equality, 0, atol=1e-7)
    np.testing.assert_allclose(h.inequality, -lam * x, rtol=1e-6)
