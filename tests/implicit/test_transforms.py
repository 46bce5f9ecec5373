"""Every hypergradient under every transform of JAX, beside the closed form of the solution."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transform_matrix

from omd import implicit

_MATRIX = np.array([[2.0, 0.3, 0.1], [0.3, 1.5, -0.2], [0.1, -0.2, 1.2]])
_THETA = np.array([0.4, -0.7])
_TANGENT = np.array([1.0, 2.0])
_METHODS = {
    "dense": implicit.Dense(),
    "pseudo-inverse": implicit.PseudoInverse(),
    "cg": implicit.CG,
    "normal-cg": implicit.NormalCG,
    "gmres": implicit.GMRES,
    "neumann": implicit.Neumann(300, 0.4),
    "nystrom": implicit.Nystrom,
}


def _method(name, dtype):
    fine = dtype == jnp.float64
    method = _METHODS[name]
    if name == "nystrom":
        return method(3, damping=1e-12 if fine else 1e-7)
    return method(rtol=1e-12 if fine else 1e-6) if isinstance(method, type) else method


def _right(theta):
    return jnp.array([jnp.sin(theta[0]), theta[0] * theta[1], theta[1] ** 2])


def _matrix(theta):
    return jnp.asarray(_MATRIX, theta.dtype) * (1 + 0.1 * theta[0] ** 2)


def _closed_form(theta):
    return jnp.sum(jnp.linalg.solve(_matrix(theta), _right(theta)) ** 3)


def _constraint(w, theta):
    return _matrix(theta) @ w - _right(theta)


def _loss(method):
    def solver(w0, theta):
        return jnp.linalg.solve(_matrix(theta), _right(theta))

    def loss(theta):
        w0 = jnp.zeros(3, theta.dtype)
        w = implicit.root(_constraint, solver, w0, theta, hypergradient=method)
        return jnp.sum(w**3)

    return loss


_TRANSFORMS = {
    "grad": jax.grad,
    "jvp": lambda f: lambda t: jax.jvp(f, (t,), (jnp.asarray(_TANGENT, t.dtype),))[1],
    "jacfwd": jax.jacfwd,
    "linearize": lambda f: lambda t: jax.linearize(f, t)[1](jnp.asarray(_TANGENT, t.dtype)),
    "hessian": jax.hessian,
    "reverse over forward": lambda f: jax.jacrev(jax.jacfwd(f)),
    "vmap": lambda f: lambda t: jax.vmap(jax.grad(f))(jnp.stack([t, 2 * t])),
    "grad of vmap": lambda f: (
        lambda t: jax.grad(lambda many: jnp.sum(jax.vmap(f)(many)))(jnp.stack([t, 2 * t]))
    ),
    "scan": lambda f: (
        lambda t: jax.lax.scan(lambda t, _: (t - 0.1 * jax.grad(f)(t), f(t)), t, length=3)
    ),
    "checkpoint": lambda f: jax.grad(jax.checkpoint(f)),
}
_OF_FLOAT32 = ("grad", "jvp", "hessian", "vmap")
"""The others are the same derivatives in another order, whatever the precision."""


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", _METHODS)
def test_every_transform_gives_the_derivative_of_the_closed_form(name, dtype):
    theta = jnp.asarray(_THETA, dtype)
    loss = _loss(_method(name, dtype))

    @jax.jit
    def both(theta):
        return {
            key: (transform(loss)(theta), transform(_closed_form)(theta))
            for key, transform in _TRANSFORMS.items()
            if dtype == jnp.float64 or key in _OF_FLOAT32
        }

    tolerance = 1e-6 if dtype == jnp.float64 else 2e-3
    for key, (got, want) in both(theta).items():
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert a.dtype == dtype
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=key)


@pytest.mark.parametrize("name", ["dense", "cg"])
def test_third_derivatives(name):
    third = lambda f: jax.jacfwd(jax.hessian(f))  # noqa: E731
    got, want = jax.jit(
        lambda t: (third(_loss(_method(name, t.dtype)))(t), third(_closed_form)(t))
    )(jnp.asarray(_THETA))
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["dense", "cg"])
def test_without_jit_it_is_the_same(name):
    loss = _loss(_method(name, jnp.float64))
    for key in ("grad", "jvp", "hessian"):
        transform = _TRANSFORMS[key]
        np.testing.assert_allclose(
            transform(loss)(jnp.asarray(_THETA)),
            transform(_closed_form)(jnp.asarray(_THETA)),
            rtol=1e-9,
        )


def test_the_matrix_of_transforms_on_a_problem_of_the_zoo():
    """Two methods; the script has all, and four problems."""
    names = ["dense", "gmres"]
    found = transform_matrix.errors(implicit.problems.get("ridge"), names)
    assert set(found) == set(names)
    for method, row in found.items():
        for transform, error in row.items():
            assert error <= 1e-6, (method, transform)


@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_a_jacobian_that_is_not_symmetric_is_transposed_in_the_other_mode(mode):
    matrix = jnp.array([[2.0, 1.0, 0.0], [-1.0, 1.5, 0.4], [0.2, 0.0, 1.2]])

    def solution(theta):
        return implicit.root(
            lambda w, theta: matrix @ w - _right(theta),
            lambda w0, theta: jnp.linalg.solve(matrix, _right(theta)),
            jnp.zeros(3),
            theta,
            hypergradient=implicit.GMRES(rtol=1e-12),
        )

    want = jnp.linalg.solve(matrix, jax.jacfwd(_right)(jnp.asarray(_THETA)))
    np.testing.assert_allclose(jax.jit(mode(solution))(jnp.asarray(_THETA)), want, rtol=1e-9)


def test_the_explicit_form_can_be_differentiated():
    def gradient(theta):
        w = jax.lax.stop_gradient(jnp.linalg.solve(_matrix(theta), _right(theta)))
        w = implicit.root(_constraint, lambda *_: w, w, theta, hypergradient=implicit.Dense())
        return implicit.hypergradient(
            lambda w, theta: jnp.sum(w**3), _constraint, w, theta, method=implicit.CG(rtol=1e-12)
        )[0]

    want = jax.hessian(_closed_form)(jnp.asarray(_THETA))
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(jax.jit(mode(gradient))(jnp.asarray(_THETA)), want, rtol=1e-8)


_SKEW = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
_ILL_POSED = {
    "CG on a skew Jacobian": (_SKEW, implicit.CG(), "used all its steps"),
    "a singular Jacobian": (jnp.ones((2, 2)), implicit.Dense(), "singular or nearly so|not finite"),
    "GMRES cut short": (
        jnp.diag(jnp.array([1.0, 1e-4])),
        implicit.GMRES(rtol=1e-10, restart=1, max_restarts=1),
        "used all its steps|stopped by itself",
    ),
    "CG with too few steps": (
        jnp.diag(jnp.array([1.0, 1e-4])),
        implicit.CG(max_steps=1),
        "used all its steps",
    ),
    "a Jacobian that isn't finite": (jnp.full((2, 2), jnp.nan), implicit.GMRES(), "not finite"),
}


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("name", _ILL_POSED)
def test_a_failed_solve_raises(name, jit):
    matrix, method, message = _ILL_POSED[name]
    goal = jnp.array([1.0, 2.0])

    def root_gradient(theta, throw):
        def loss(theta):
            w = implicit.root(
                lambda w, theta: matrix @ (w - theta),
                lambda w0, theta: theta,
                jnp.zeros(2),
                theta,
                hypergradient=method,
                throw=throw,
            )
            return goal @ w

        return jax.grad(loss)(theta)

    def explicit(theta, throw):
        return implicit.hypergradient(
            lambda w, theta: goal @ w,
            lambda w, theta: matrix @ (w - theta),
            theta,
            theta,
            method=method,
            throw=throw,
        )

    theta = jnp.array([0.3, 0.4])
    for f in (root_gradient, explicit):
        call = jax.jit(f, static_argnums=1) if jit else f
        plain = f is explicit and not jit
        with pytest.raises(RuntimeError if plain else (RuntimeError, ValueError), match=message):
            jax.block_until_ready(call(theta, True))
        jax.block_until_ready(call(theta, False))


def test_a_solve_that_fails_after_one_that_did_not_raises_a_runtime_error_of_one_sentence():
    """JAX's issue 34083: the program has run well, and JAX says ValueError then."""

    def gradient(matrix):
        return implicit.hypergradient(
            lambda w, theta: w[0],
            lambda w, theta: matrix @ (w - theta),
            jnp.ones(2),
            jnp.ones(2),
            method=implicit.Dense(),
        )[0]

    for _ in range(2):
        np.testing.assert_allclose(gradient(jnp.eye(2)), [1.0, 0.0])
    with pytest.raises(RuntimeError) as caught:
        gradient(jnp.ones((2, 2)))
    assert re.fullmatch(
        "omd.implicit: the linear solve .* shows its residual.\\)", str(caught.value)
    )
    with pytest.raises((RuntimeError, ValueError), match="linear solve behind a derivative failed"):
        jax.block_until_ready(jax.jit(gradient)(jnp.ones((2, 2))))


@pytest.mark.parametrize(
    "method", [implicit.Identity(), implicit.Neumann(3), implicit.Nystrom(1)], ids=repr
)
def test_approximations_claim_nothing_and_do_not_raise(method):
    grad, report = implicit.hypergradient(
        lambda w, theta: w[0] + 2 * w[1],
        lambda w, theta: _SKEW @ (w - theta),
        jnp.zeros(2),
        jnp.zeros(2),
        method=method,
    )
    assert implicit.Status(int(report.status)) == implicit.Status.NOT_CHECKED
    assert "not computed" in report.describe()
    assert np.all(np.isfinite(grad))
