"""Decorators in JAXopt's order, solvers of others, KKT conditions and projections."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from jax.test_util import check_grads

from omd import implicit
from omd.implicit import projections

_X = np.random.default_rng(0).normal(size=(20, 3))
_Y = np.random.default_rng(1).normal(size=20)


def _ridge_loss(w, theta, x, y):
    return jnp.mean((x @ w - y) ** 2) / 2 + theta * jnp.sum(w**2) / 2


_CONSTRAINT = jax.grad(_ridge_loss)


def _ridge(theta, x, y):
    return jnp.linalg.solve(x.T @ x / len(y) + theta * jnp.eye(3), x.T @ y / len(y))


def _same_derivative(solver, rtol=1e-6):
    got = jax.jit(jax.jacrev(lambda t, x: solver(t, x), argnums=(0, 1)))(0.3, _X)
    want = jax.jacrev(lambda t, x: _ridge(t, x, _Y), argnums=(0, 1))(0.3, _X)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(
    "solve",
    [
        None,
        implicit.CG(rtol=1e-12),
        lambda product, right: jax.scipy.sparse.linalg.cg(product, right, tol=1e-12)[0],
    ],
    ids=["default", "cg", "function"],
)
@pytest.mark.parametrize("init", [None, "zeros"])
def test_custom_root(solve, init):
    @implicit.custom_root(_CONSTRAINT, solve=solve)
    def solver(init, theta, x, y):
        """Normal equations."""
        return _ridge(theta, x, y)

    assert solver.__doc__ == "Normal equations."
    start = None if init is None else jnp.zeros(3)
    _same_derivative(lambda t, x: solver(start, t, x, _Y), 1e-4 if solve is None else 1e-6)
    _same_derivative(lambda t, x: solver(start, t, y=_Y, x=x), 1e-4 if solve is None else 1e-6)


def test_arguments_are_bound_as_jaxopt_binds_them():
    """Defaults and keywords of the solver reach the constraint; `init` may have any name."""
    decorate = implicit.custom_root(lambda w, t, k: k * w - t, solve=implicit.Dense())

    @decorate
    def positional(init_params, t, k=4.0):
        return t / k

    @decorate
    def by_keyword(start, *, k, t):
        return t / k

    @implicit.custom_fixed_point(lambda w, *, t: w / 2 + t / 8, solve=implicit.Dense())
    def fixed_point(init, *, t):
        return t / 4

    t = jnp.array([1.0, 2.0])
    for solution in (
        lambda t: positional(None, t),
        lambda t: positional(t=t, init_params=None),
        lambda t: positional(jnp.zeros(2), t, 4),
        lambda t: by_keyword(None, t=t, k=jnp.array(4.0)),
        lambda t: fixed_point(None, t=t),
        lambda t: implicit.custom_root(lambda w, t, k: k * w - t)(
            implicit.on_host(lambda w0, t, k=4.0: t / k)
        )(jnp.zeros(2), t),
    ):
        np.testing.assert_allclose(jax.jacrev(solution)(t), np.eye(2) / 4, rtol=1e-6)


def test_custom_root_has_forward_mode_and_extra():
    @implicit.custom_root(_CONSTRAINT, has_aux=True, solve=implicit.Dense())
    def solver(init, theta, x, y):
        return _ridge(theta, x, y), {"steps": jnp.array(1)}

    slope, extra = jax.jacfwd(lambda t: solver(None, t, _X, _Y), has_aux=True)(0.3)
    np.testing.assert_allclose(slope, jax.jacfwd(lambda t: _ridge(t, _X, _Y))(0.3), rtol=1e-9)
    assert extra["steps"] == 1


def test_custom_fixed_point():
    def operator(w, theta):
        return 0.5 * jnp.tanh(w) + theta

    @implicit.custom_fixed_point(operator, solve=implicit.Dense())
    def solver(init, theta):
        return jax.lax.fori_loop(0, 100, lambda _, w: operator(w, theta), init)

    check_grads(lambda t: solver(jnp.zeros(2), t), (jnp.array([0.3, -0.4]),), order=2)


def test_an_optax_loop():
    optimiser = optax.adam(0.05)

    def solver(w0, theta, x, y):
        def step(carry, _):
            w, state = carry
            updates, state = optimiser.update(_CONSTRAINT(w, theta, x, y), state)
            return (optax.apply_updates(w, updates), state), None

        return jax.lax.scan(step, (w0, optimiser.init(w0)), length=1500)[0][0]

    _same_derivative(
        lambda t, x: implicit.root(
            _CONSTRAINT, solver, jnp.zeros(3), t, x, _Y, hypergradient=implicit.Dense()
        )
    )


def test_optimistix_minimise():
    optimistix = pytest.importorskip("optimistix")

    def solver(w0, theta, x, y):
        found = optimistix.minimise(
            lambda w, args: _ridge_loss(w, *args), optimistix.BFGS(1e-10, 1e-10), w0, (theta, x, y)
        )
        return found.value

    _same_derivative(
        lambda t, x: implicit.root(
            _CONSTRAINT, solver, jnp.zeros(3), t, x, _Y, hypergradient=implicit.Dense()
        )
    )


def test_scipy_under_jit():
    def solver(w0, theta, x, y):
        def loss(w):
            r = x @ w - y
            return r @ r / len(y) / 2 + theta * w @ w / 2, x.T @ r / len(y) + theta * w

        return scipy.optimize.minimize(loss, w0, jac=True, method="BFGS", tol=1e-10).x

    _same_derivative(
        lambda t, x: implicit.root(
            _CONSTRAINT,
            implicit.on_host(solver),
            jnp.zeros(3),
            t,
            x,
            _Y,
            hypergradient=implicit.CG(rtol=1e-12),
        )
    )
    many = jax.vmap(
        lambda t: implicit.root(_CONSTRAINT, implicit.on_host(solver), jnp.zeros(3), t, _X, _Y)
    )(jnp.array([0.1, 0.5]))
    np.testing.assert_allclose(many[1], _ridge(0.5, _X, _Y), rtol=1e-6)


def test_kkt_of_an_equality_and_an_inequality():
    """min ½‖x − θ‖² with Σ x = 1 and x ≥ 0: the projection onto the simplex."""
    constraint = implicit.kkt(
        lambda x, theta: jnp.sum((x - theta) ** 2) / 2,
        equality=lambda x, theta: jnp.sum(x) - 1,
        inequality=lambda x, theta: -x,
    )

    def solver(w0, theta):
        x = projections.simplex(theta)
        active = x > 0
        nu = jnp.sum(jnp.where(active, theta - x, 0)) / jnp.sum(active)
        return implicit.KKT(x, nu, jnp.where(active, 0.0, x - theta + nu))

    def solution(theta):
        w0 = implicit.KKT(jnp.zeros(4), jnp.zeros(()), jnp.zeros(4))
        return implicit.root(constraint, solver, w0, theta, hypergradient=implicit.Dense()).primal

    theta = jnp.array([0.5, 0.9, -0.3, 0.1])
    h = constraint(solver(None, theta), theta)
    assert all(np.allclose(part, 0, atol=1e-12) for part in h)
    # two entries stay: x = θ − mean(θ) + ½ on them
    want = np.zeros((4, 4))
    want[:2, :2] = np.eye(2) - 0.5
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(mode(solution)(theta), want, atol=1e-9)
        np.testing.assert_allclose(mode(projections.simplex)(theta), want, atol=1e-9)


def test_kkt_of_an_equality_alone():
    """min ½ xᵀQx + θ·x with a·x = 2, by its linear system."""
    q, a = jnp.array([[2.0, 0.5], [0.5, 1.0]]), jnp.array([1.0, 3.0])
    matrix = jnp.block([[q, a[:, None]], [a[None], jnp.zeros((1, 1))]])
    constraint = implicit.kkt(
        lambda x, theta: x @ q @ x / 2 + theta @ x, equality=lambda x, theta: a @ x - 2
    )

    def solver(w0, theta):
        found = jnp.linalg.solve(matrix, jnp.append(-theta, 2.0))
        return implicit.KKT(found[:2], found[2])

    def solution(theta):
        w0 = implicit.KKT(jnp.zeros(2), jnp.zeros(()))
        return implicit.root(constraint, solver, w0, theta).primal

    want = -np.linalg.inv(matrix)[:2, :2]
    np.testing.assert_allclose(jax.jacrev(solution)(jnp.array([0.3, 0.4])), want, atol=1e-5)


def test_projections_by_hand():
    np.testing.assert_allclose(projections.simplex(jnp.array([2.0, 0.0])), [1.0, 0.0])
    np.testing.assert_allclose(projections.simplex(jnp.array([0.5, 0.3]), 2.0), [1.1, 0.9])
    np.testing.assert_allclose(projections.ball(jnp.array([3.0, 4.0]), 2.0), [1.2, 1.6])
    np.testing.assert_allclose(projections.ball(jnp.array([0.3, 0.4])), [0.3, 0.4])
    np.testing.assert_allclose(projections.box(jnp.array([-1.0, 0.5, 3.0]), 0.0, 2.0), [0, 0.5, 2])


def test_projections_keep_their_digits():
    large = jnp.array([1e30, 1e30], jnp.float32)
    np.testing.assert_allclose(projections.ball(large), 0.5**0.5, rtol=1e-6)
    near = jnp.array([1e8, 1e8 - 8], jnp.float32)
    np.testing.assert_allclose(projections.simplex(near), [1.0, 0.0])
    assert np.all(np.isnan(projections.simplex(jnp.array([np.nan, 1.0]))))


@pytest.mark.parametrize(
    ("project", "v"),
    [
        (projections.simplex, [0.5, 0.9, -0.3, 0.1]),
        (lambda v: projections.simplex(v, 3.0), [0.5, 0.9, -0.3, 0.1]),
        (projections.ball, [0.6, -1.3]),
        (projections.ball, [0.1, 0.2]),
        (projections.ball, [0.0, 0.0]),
        (lambda v: projections.box(v, -0.5, 1.0), [0.6, -1.3, 2.0]),
    ],
)
def test_derivatives_of_projections(project, v):
    check_grads(project, (jnp.array(v),), order=2, modes=("fwd", "rev"))


def test_derivatives_in_the_size_of_the_set():
    v = jnp.array([0.6, 0.9, -1.3])
    check_grads(lambda r: projections.ball(v, r), (0.8,), order=1)
    check_grads(lambda s: projections.simplex(v, s), (0.8,), order=1)
    check_grads(lambda high: projections.box(v, -1.0, high), (0.7,), order=1)


def test_a_projected_fixed_point():
    """min ½‖Aw − θ‖² on the simplex: w = P(w − step · gradient)."""
    a = jnp.asarray(np.random.default_rng(3).normal(size=(5, 3)))

    def operator(w, theta):
        return projections.simplex(w - 0.1 * a.T @ (a @ w - theta))

    @implicit.custom_fixed_point(operator, solve=implicit.Dense())
    def solver(init, theta):
        return jax.lax.fori_loop(0, 2000, lambda _, w: operator(w, theta), init)

    theta = jnp.asarray(np.random.default_rng(4).normal(size=5))
    check_grads(lambda t: solver(jnp.ones(3) / 3, t), (theta,), order=1, eps=1e-5, rtol=1e-5)
