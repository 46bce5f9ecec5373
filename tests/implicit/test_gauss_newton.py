import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import implicit
from omd.errors import InputError


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def least_squares(residuals, w):
    """`LeastSquares` of residuals [blocks, m], whatever they share."""
    jacobian = jax.jacobian(residuals)(w)
    return implicit.LeastSquares(
        product=lambda v: jax.jvp(jax.grad(lambda w: 0.5 * jnp.sum(residuals(w) ** 2)), (w,), (v,))[
            1
        ],
        push=lambda v: jax.jvp(residuals, (w,), (v,))[1],
        pull=lambda z: jax.vjp(residuals, w)[1](z)[0],
        gram=lambda: jnp.einsum("bin,bjn->bij", jacobian, jacobian),
    )


def test_it_is_the_damped_inverse_of_the_jacobian_s_square():
    a = jax.random.normal(jax.random.key(0), (5, 7))
    w, g = jax.random.normal(jax.random.key(1), (2, 7))
    constraint = least_squares(lambda w: jnp.tanh(a @ w)[None], w)
    u, report = implicit.GaussNewton(damping=0.1).solve(constraint, g, check=True)
    jacobian = jax.jacobian(lambda w: jnp.tanh(a @ w))(w)
    expected = jnp.linalg.solve(jacobian.T @ jacobian + 0.1 * jnp.eye(7), g)
    np.testing.assert_allclose(u, expected, rtol=1e-11)
    # the report is about ∂h/∂w itself, with the curvature that was left out
    assert int(report.status) == implicit.Status.MEASURED
    damped = constraint(u) + 0.1 * u
    wanted = jnp.linalg.norm(damped - g) / jnp.linalg.norm(g)
    np.testing.assert_allclose(report.solve_residual, wanted, rtol=1e-9)
    assert report.solve_residual > 1e-3


def test_it_is_exact_where_the_residuals_are_linear():
    a = jax.random.normal(jax.random.key(0), (2, 4, 3))  # two blocks of their own parameters
    w, g = jax.random.normal(jax.random.key(1), (2, 2, 3))
    constraint = least_squares(lambda w: jnp.einsum("bij,bj->bi", a, w), w)
    # gram of a block: the other's parameters are not in it
    constraint = implicit.LeastSquares(
        constraint.product, constraint.push, constraint.pull, lambda: a @ a.transpose(0, 2, 1)
    )
    u, report = implicit.get("gauss-newton:damping=1e-3").solve(constraint, g, check=True)
    assert report.solve_residual < 1e-11
    dense, _ = implicit.Dense(damping=1e-3).solve(constraint, g)
    np.testing.assert_allclose(u, dense, rtol=1e-9)


def test_the_image_keeps_its_digits_where_u_loses_them():
    """In float32, J Jᵀ with eigenvalues from 1 to 4000, damping 1e-3."""
    u, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (6, 6)))
    v, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(1), (40, 6)))
    jacobian = u * jnp.sqrt(jnp.geomspace(1, 4000, 6)) @ v.T
    g = jacobian.T @ jax.random.normal(jax.random.key(2), (6,))
    expected = jnp.linalg.solve(jacobian @ jacobian.T + 1e-3 * jnp.eye(6), jacobian @ g)
    a, g = jacobian.astype(jnp.float32), g.astype(jnp.float32)
    problem = implicit.LeastSquares(
        lambda v: a.T @ (a @ v),
        lambda v: (a @ v)[None],
        lambda z: a.T @ z[0],
        lambda: (a @ a.T)[None],
    )
    method = implicit.GaussNewton(damping=1e-3)
    image = method.image(problem, g)[0][0]
    assert image.dtype == jnp.float32

    def error(found):
        return float(jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected))

    assert error(image) < 1e-3
    assert error(a @ method.solve(problem, g)[0]) > 10 * error(image)


def test_equal_samples_with_large_derivatives_are_no_trouble():
    """A singular J Jᵀ with a trace of 1e8 in float32: its rounding is far above the damping."""
    rows = 1e3 * jax.random.normal(jax.random.key(0), (50, 4), jnp.float32)
    a = jnp.concatenate([rows, rows])
    problem = implicit.LeastSquares(
        lambda v: a.T @ (a @ v),
        lambda v: (a @ v)[None],
        lambda z: a.T @ z[0],
        lambda: (a @ a.T)[None],
    )
    residual = jax.random.normal(jax.random.key(1), (100,), jnp.float32)
    # with the damping alone, rounding makes the matrix indefinite
    assert np.isnan(np.linalg.norm(jnp.linalg.cholesky(a @ a.T + 1e-6 * jnp.eye(100))))
    image = implicit.GaussNewton(damping=1e-6).image(problem, a.T @ residual)[0][0]
    # what of the residual lies in the range of J
    wide = np.asarray(a, np.float64)
    expected = wide @ np.linalg.lstsq(wide, np.asarray(residual, np.float64))[0]
    # rounding puts eps · ‖J Jᵀ‖ · ‖residual‖ outside that range, to be divided by 2 eps tr(J Jᵀ);
    # with four alike singular values the trace is four times the norm
    error = np.linalg.norm(np.asarray(image) - expected)
    assert error <= np.linalg.norm(residual) / 8


def test_other_constraints_and_bad_damping_are_refused():
    with pytest.raises(InputError, match="gauss-newton needs a constraint that is known to be"):
        implicit.hypergradient(
            lambda w, theta: w @ w,
            lambda w, theta: w - theta,
            jnp.ones(2),
            jnp.ones(2),
            method=implicit.GaussNewton(),
        )
    with pytest.raises(InputError, match=r"damping of gauss-newton is 0.0: .* above 0"):
        implicit.GaussNewton(damping=0.0)


def test_the_image_of_any_other_method_is_that_of_its_answer():
    a = jax.random.normal(jax.random.key(0), (5, 4))
    w, g = jax.random.normal(jax.random.key(1), (2, 4))
    problem = least_squares(lambda w: (a @ w)[None], w)
    image, report = implicit.Dense().image(problem, g)
    np.testing.assert_allclose(image[0], a @ jnp.linalg.solve(a.T @ a, g), rtol=1e-9)
    assert int(report.status) == implicit.Status.CONVERGED
