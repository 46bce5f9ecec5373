"""Cheaper adjoint solves: preconditioner, warm start, factors, several right-hand sides."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from omd import implicit
from omd.errors import InputError
from omd.implicit import Status

_RNG = np.random.default_rng(0)
_VALUES = np.geomspace(1, 1e4, 60)
_ROTATION, _ = np.linalg.qr(_RNG.normal(size=(60, 60)))
_STIFF = np.diag(_VALUES) + 0.1 * (_ROTATION + _ROTATION.T)
_G = _RNG.normal(size=60)


def _jacobi(v):
    return v / np.diag(_STIFF)


@pytest.mark.parametrize(
    "preconditioner",
    [
        _jacobi,
        "operator",
    ],
    ids=["function", "operator"],
)
def test_a_preconditioner_halves_the_products(preconditioner):
    plain, report = implicit.CG(rtol=1e-8, max_steps=500).solve(
        lambda v: _STIFF @ v, jnp.asarray(_G)
    )
    if preconditioner == "operator":
        preconditioner = lx.DiagonalLinearOperator(1 / jnp.asarray(_VALUES))
    method = implicit.CG(rtol=1e-8, max_steps=500, preconditioner=preconditioner)
    u, better = method.solve(lambda v: _STIFF @ v, jnp.asarray(_G))
    assert int(better.status) == int(report.status) == Status.CONVERGED
    assert 2 * int(better.iterations) <= int(report.iterations)
    exact = np.linalg.solve(_STIFF, _G)
    np.testing.assert_allclose(u, exact, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(plain, exact, rtol=1e-3, atol=1e-6)


def test_gmres_transposes_its_preconditioner_in_forward_mode():
    matrix = jnp.asarray(np.diag(np.geomspace(1, 1e3, 8)) + np.triu(np.ones((8, 8)), 1))
    inverse_of_transpose = jnp.linalg.inv(matrix).T  # of what a gradient solves
    method = implicit.GMRES(
        rtol=1e-10, restart=2, max_restarts=2, preconditioner=lambda v: inverse_of_transpose @ v
    )

    def solution(theta):
        return implicit.root(
            lambda w, theta: matrix @ w - theta,
            lambda w0, theta: jnp.linalg.solve(matrix, theta),
            jnp.zeros(8),
            theta,
            hypergradient=method,
        )

    want = np.linalg.inv(matrix)
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(mode(solution)(jnp.ones(8)), want, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize(
    "method",
    [
        implicit.CG(rtol=1e-4),
        implicit.NormalCG(rtol=1e-4),
        implicit.GMRES(rtol=1e-4, restart=1, max_restarts=50),
    ],
    ids=lambda m: type(m).__name__,
)
def test_a_warm_start_is_carried_from_step_to_step(method):
    """Gradient descent on θ: u hardly moves, and the next solve starts at it."""
    matrix = jnp.asarray(np.diag(np.linspace(1, 3, 12)))
    goal = jnp.asarray(_RNG.normal(size=12))

    def gradient(theta, init):
        w = jnp.linalg.solve(matrix, theta)
        return implicit.hypergradient(
            lambda w, theta: jnp.sum((w - goal) ** 2),
            lambda w, theta: matrix @ w - theta,
            w,
            theta,
            method=method,
            adjoint_init=init,
        )

    @jax.jit
    def descend(theta, warm):
        def step(carry, _):
            theta, init = carry
            grad, report = gradient(theta, jnp.where(warm, init, 0.0))
            return (theta - 1e-4 * grad, report.solution), report.iterations

        return jax.lax.scan(step, (theta, jnp.zeros(12)), length=20)

    (cold_theta, _), cold = descend(jnp.ones(12), False)
    (warm_theta, u), warm = descend(jnp.ones(12), True)
    np.testing.assert_allclose(warm_theta, cold_theta, rtol=1e-4)
    assert u.shape == (12,)
    assert 2 * int(warm.sum()) <= int(cold.sum())


def test_a_warm_start_at_the_answer_takes_no_product():
    exact = jnp.asarray(np.linalg.solve(_STIFF, _G))
    _, report = implicit.CG(rtol=1e-6).solve_from(exact, lambda v: _STIFF @ v, jnp.asarray(_G))
    assert int(report.iterations) == 0
    u, report = implicit.Dense().solve_from(exact / 2, lambda v: _STIFF @ v, jnp.asarray(_G))
    np.testing.assert_allclose(u, exact, rtol=1e-8)


@pytest.mark.parametrize(
    "method", [implicit.CG(), implicit.GMRES(), implicit.NormalCG()], ids=lambda m: type(m).__name__
)
def test_a_warm_start_is_forgotten_where_the_answer_is_zero(method):
    """At the outer minimum ∂J/∂w = 0, and no residual of the guess is small beside that."""
    grad, report = implicit.hypergradient(
        lambda w, theta: jnp.sum((w - 1) ** 2),
        lambda w, theta: 2 * w - theta,
        jnp.ones(3),
        2 * jnp.ones(3),
        method=method,
        adjoint_init=jnp.ones(3),
    )
    np.testing.assert_array_equal(grad, 0)
    assert report.status == Status.CONVERGED


def test_root_takes_a_warm_start_and_reports_the_next():
    seen = []

    def loss(theta):
        w = implicit.root(
            lambda w, theta: 2 * w - theta,
            lambda w0, theta: theta / 2,
            jnp.zeros(3),
            theta,
            hypergradient=implicit.CG(),
            adjoint_init=jnp.full(3, 0.5),
            on_report=seen.append,
        )
        return jnp.sum(w)

    np.testing.assert_allclose(jax.grad(loss)(jnp.ones(3)), 0.5)
    jax.effects_barrier()
    assert int(seen[-1].iterations) == 0
    np.testing.assert_allclose(seen[-1].solution, 0.5)
    with pytest.raises(InputError, match="adjoint_init does not match w"):
        implicit.hypergradient(
            lambda w, t: jnp.sum(w),
            lambda w, t: w - t,
            jnp.ones(3),
            jnp.ones(3),
            adjoint_init=jnp.ones(2),
        )


@pytest.mark.parametrize("method", [None, implicit.GMRES(rtol=1e-10)], ids=["default", "gmres"])
def test_newtons_factors_are_used_again(method):
    """w³ + Aw = θ by Newton's method; its last LU factors serve the derivative."""
    matrix = jnp.array([[2.0, 1.0], [-1.0, 3.0]])
    seen = []

    def constraint(w, theta):
        return w**3 + matrix @ w - theta

    def newton(w0, theta):
        def step(w, _):
            factors = jax.scipy.linalg.lu_factor(jax.jacobian(constraint)(w, theta))
            return w - jax.scipy.linalg.lu_solve(factors, constraint(w, theta)), factors

        w, factors = jax.lax.scan(step, w0, length=30)
        last = jax.tree.map(lambda x: x[-1], factors)
        return w, lambda v: jax.scipy.linalg.lu_solve(last, v)

    def solution(theta):
        return implicit.root(
            constraint,
            newton,
            jnp.zeros(2),
            theta,
            hypergradient=method,
            has_factors=True,
            on_report=seen.append,
        )

    theta = jnp.array([1.0, -0.5])
    w = solution(theta)
    want = np.linalg.inv(np.diag(3 * np.asarray(w) ** 2) + matrix)
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(jax.jit(mode(solution))(theta), want, rtol=1e-8)
    jax.effects_barrier()
    assert max(int(report.iterations) for report in seen) <= 2


def test_factors_need_a_method_that_takes_them():
    with pytest.raises(InputError, match="Dense takes no preconditioner"):
        implicit.root(
            lambda w, t: w - t,
            lambda w0, t: (t, lambda v: v),
            jnp.zeros(2),
            jnp.ones(2),
            hypergradient=implicit.Dense(),
            has_factors=True,
        )
    with pytest.raises(InputError, match=r"return a triple \(w, inverse, extra\)"):
        implicit.root(
            lambda w, t: w - t,
            lambda w0, t: (t, lambda v: v),
            jnp.zeros(2),
            jnp.ones(2),
            has_factors=True,
            has_aux=True,
        )


def test_refinement_with_a_rough_inverse():
    rough = implicit.Refinement(lambda v: v / np.diag(_STIFF), rtol=1e-10, max_steps=100)
    u, report = rough.solve(lambda v: _STIFF @ v, jnp.asarray(_G))
    assert int(report.status) == Status.CONVERGED
    np.testing.assert_allclose(u, np.linalg.solve(_STIFF, _G), rtol=1e-7, atol=1e-10)
    _, report = implicit.Refinement(lambda v: v, max_steps=5).solve(
        lambda v: _STIFF @ v, jnp.asarray(_G)
    )
    assert int(report.status) in (Status.MAX_STEPS, Status.NON_FINITE)


@pytest.mark.parametrize(
    "method", [implicit.Dense(), implicit.CG(rtol=1e-12), implicit.GMRES(rtol=1e-12)], ids=repr
)
def test_rows_of_the_jacobian_are_gradients(method):
    matrix = jnp.array([[2.0, 0.4], [0.4, 1.0]])
    theta = jnp.array([0.3, -0.2])
    w = jnp.linalg.solve(matrix, theta)

    def outer(w, theta):
        return jnp.array([w[0] ** 2, w[0] * w[1] + theta[0], w[1]])

    rows, reports = implicit.jacobian(
        outer, lambda w, theta: matrix @ w - theta, w, theta, method=method
    )
    want = jax.jacobian(lambda t: outer(jnp.linalg.solve(matrix, t), t))(theta)
    np.testing.assert_allclose(rows, want, rtol=1e-9)
    assert reports.status.tolist() == [Status.CONVERGED] * 3


@pytest.mark.parametrize(
    "method",
    [implicit.CG(rtol=1e-10, max_steps=400), implicit.GMRES(rtol=1e-10, max_restarts=50)],
    ids=lambda m: type(m).__name__,
)
def test_right_hand_sides_share_a_space(method):
    """Each product serves all: fewer block products than the hardest needs alone. Copies, zeros and
    columns that aren't finite spoil no other."""
    rights = np.array(_RNG.normal(size=(8, 60)))
    rights[1], rights[2], rights[3, 0] = rights[0], 0.0, np.nan

    def product(v):
        return _STIFF @ v

    u, together = jax.jit(lambda g: method.solve_many(product, g))(rights)
    good = [0, 1, 2, 4, 5, 6, 7]
    exact = np.linalg.solve(_STIFF, rights[good].T).T
    np.testing.assert_allclose(u[jnp.array(good)], exact, rtol=1e-6, atol=1e-9)
    assert together.status[jnp.array(good)].tolist() == [Status.CONVERGED] * 7
    assert int(together.status[3]) == Status.NON_FINITE
    _, alone = method.solve(product, jnp.asarray(rights[0]))
    assert together.iterations.shape == (8,)
    assert int(jnp.max(together.iterations)) < int(alone.iterations)


def test_a_jacobian_by_blocks_can_be_differentiated_and_its_failure_is_seen():
    matrix = jnp.array([[2.0, 0.4], [0.4, 1.0]])
    method = implicit.CG(rtol=1e-12)

    def solution(theta):
        return jnp.linalg.solve(matrix * (1 + theta[0] ** 2), jnp.sin(theta))

    def constraint(w, theta):
        return matrix * (1 + theta[0] ** 2) @ w - jnp.sin(theta)

    def rows(theta):
        w = implicit.root(
            constraint, lambda w0, theta: solution(theta), jnp.zeros(2), theta, hypergradient=method
        )
        return implicit.jacobian(
            lambda w, theta: jnp.stack([w[0] ** 2, w[1], theta[1]]),
            constraint,
            w,
            theta,
            method=method,
        )[0]

    def want(theta):
        w = solution(theta)
        return jnp.stack([w[0] ** 2, w[1], theta[1]])

    theta = jnp.array([0.3, -0.2])
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(
            mode(rows)(theta), jax.jacfwd(jax.jacfwd(want))(theta), rtol=1e-8, atol=1e-10
        )
    with pytest.raises(RuntimeError, match="linear solve behind a derivative failed"):
        implicit.jacobian(lambda w, t: w, lambda w, t: 0 * w, theta, theta, method=method)
