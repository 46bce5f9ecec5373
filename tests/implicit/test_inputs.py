"""Mixed and odd inputs: precisions, integers, keys, None, empty pytrees, scalars, complex."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import implicit
from omd.errors import InputError

_METHODS = [
    implicit.CG(rtol=1e-4),
    implicit.NormalCG(rtol=1e-4),
    implicit.GMRES(rtol=1e-4),
    implicit.Dense(),
    implicit.PseudoInverse(),
    implicit.Nystrom(4, damping=1e-6),
    implicit.Neumann(100, 0.4),
    implicit.Identity(),
]


def _loss(method, w0):
    """w = θ/2 leaf by leaf, so that dJ/dθ = ½ for J = Σ w (1 for the identity)."""

    def loss(theta):
        w = implicit.root(
            lambda w, t: jax.tree.map(lambda a, b: (2 * a - b).astype(a.dtype), w, t),
            lambda w0, t: jax.tree.map(lambda a, b: (b / 2).astype(a.dtype), w0, t),
            w0,
            theta,
            hypergradient=method,
        )
        return sum(jnp.sum(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(w))

    return loss


@pytest.mark.parametrize(
    "dtypes",
    [("float32", "float64"), ("bfloat16",) * 2, ("float16",) * 2, ("bfloat16", "float32")],
    ids="-".join,
)
@pytest.mark.parametrize("method", _METHODS, ids=lambda m: type(m).__name__)
def test_every_precision(method, dtypes):
    w0 = {key: jnp.zeros(2, dtype) for key, dtype in zip("ab", dtypes, strict=True)}
    theta = jax.tree.map(jnp.ones_like, w0)
    loss = _loss(method, w0)

    @jax.jit
    def derivatives(theta):
        explicit, _ = implicit.hypergradient(
            lambda w, t: sum(jnp.sum(x).astype(jnp.float32) for x in jax.tree.leaves(w)),
            lambda w, t: jax.tree.map(lambda a, b: 2 * a - b, w, t),
            jax.tree.map(lambda x: x / 2, theta),
            theta,
            method=method,
        )
        return jax.grad(loss)(theta), explicit, jax.jvp(loss, (theta,), (theta,))[1]

    *gradients, tangent = derivatives(theta)
    want = 1.0 if isinstance(method, implicit.Identity) else 0.5
    for gradient in gradients:
        for key, dtype in zip("ab", dtypes, strict=True):
            assert gradient[key].dtype == dtype
            np.testing.assert_allclose(gradient[key].astype(float), want, rtol=1e-2)
    np.testing.assert_allclose(tangent, 4 * want, rtol=1e-2)


def test_half_precision_is_solved_in_float32():
    """Eigenvalues from 1 to 100: a product rounded to bfloat16 would not get below 1e-3."""
    scales = jnp.linspace(1, 100, 8).astype(jnp.bfloat16)
    _, report = implicit.hypergradient(
        lambda w, t: jnp.sum(w),
        lambda w, t: scales * w - t,
        jnp.ones(8, jnp.bfloat16),
        jnp.ones(8, jnp.bfloat16),
        method=implicit.CG(rtol=1e-5),
    )
    assert report.residual.dtype == jnp.float32
    assert report.residual < 1e-5


@pytest.mark.parametrize("method", _METHODS[:3], ids=lambda m: type(m).__name__)
def test_a_solve_alone_takes_mixed_precision(method):
    g = {"a": jnp.ones(2, jnp.float32), "b": jnp.ones(3, jnp.float64)}
    u, report = method.solve(lambda v: jax.tree.map(lambda x: 4 * x, v), g)
    assert jax.tree.map(lambda x: x.dtype, u) == jax.tree.map(lambda x: x.dtype, g)
    np.testing.assert_allclose(u["b"], 0.25, rtol=1e-4)
    assert report.status == implicit.Status.CONVERGED


def test_python_numbers_neither_lose_nor_gain_precision():
    with jax.enable_x64(True):
        w = implicit.root(
            lambda w, t, c: w - c * t,
            lambda w0, t, c: c * t,
            jnp.zeros(2, jnp.float32),
            jnp.ones(2, jnp.float32),
            2,
        )
        assert w.dtype == jnp.float32
        gradient = jax.grad(
            lambda t: implicit.root(lambda w, t: w - 2 * t, lambda w0, t: 2 * t, 0.0, t)
        )(1.0)
        assert gradient.dtype == jnp.float64
        np.testing.assert_allclose(gradient, 2.0, rtol=1e-6)


def test_a_python_float_beside_float32_stays_weak():
    """0.5 in aux must not make the constraint float64."""

    def loss(theta):
        return jnp.sum(
            implicit.root(
                lambda w, t, c: w - c * t,
                lambda w0, t, c: c * t,
                jnp.zeros(2, jnp.float32),
                theta,
                0.5,
            )
        )

    gradient = jax.grad(loss)(jnp.ones(2, jnp.float32))
    assert gradient.dtype == jnp.float32
    np.testing.assert_allclose(gradient, 0.5, rtol=1e-5)


def test_integers_keys_none_and_empty_leaves():
    w0 = {"w": jnp.zeros(2), "step": jnp.array(3), "none": None, "empty": jnp.zeros((0,))}
    theta = {"t": jnp.ones(2), "key": jax.random.key(0), "list": []}

    def solver(w0, theta):
        return {**w0, "w": theta["t"] * 3}

    def loss(t):
        w = implicit.root(
            lambda w, theta: {**w, "w": w["w"] - 3 * theta["t"]}, solver, w0, {**theta, "t": t}
        )
        assert w["none"] is None
        return jnp.sum(w["w"])

    for mode in (jax.grad, jax.jacfwd, lambda f: jax.jit(jax.grad(f))):
        np.testing.assert_allclose(mode(loss)(jnp.ones(2)), 3.0, rtol=1e-5)


def test_a_leaf_of_the_constraint_without_theta():
    def solution(t):
        w = implicit.root(
            lambda w, t: {"a": w["a"] - 2 * t, "b": w["b"] - w["a"] ** 2, "c": w["c"] - 1},
            lambda w0, t: {"a": 2 * t, "b": 4 * t**2, "c": 1.0},
            {"a": 0.0, "b": 0.0, "c": 0.0},
            t,
            hypergradient=implicit.Dense(),
        )
        return w["b"] + w["c"]

    for mode in (jax.grad, jax.jacfwd):
        np.testing.assert_allclose(mode(solution)(3.0), 24.0)
    np.testing.assert_allclose(jax.hessian(solution)(3.0), 8.0)


def test_scalars():
    def solution(t):
        return implicit.root(lambda w, t: w**3 - t, lambda w0, t: jnp.cbrt(t), 1.0, t)

    np.testing.assert_allclose(jax.grad(solution)(8.0), 1 / 12, rtol=1e-5)
    np.testing.assert_allclose(jax.grad(jax.grad(solution))(8.0), -2 / 9 * 8 ** (-5 / 3), rtol=1e-5)


def test_second_derivatives_where_constraint_and_loss_are_linear_in_w():
    """Leaves of the cotangent, or all of it, that are constants: JAX's own rule fails on them."""

    def solution(t):
        return implicit.root(
            lambda w, t: {"a": w["a"] - t**2, "b": w["b"] - t},
            lambda w0, t: {"a": t**2, "b": t},
            {"a": jnp.zeros(2), "b": jnp.zeros(2)},
            t,
            hypergradient=implicit.Dense(),
        )

    def half(t):
        w = solution(t)
        return jnp.sum(w["a"] ** 2) + jnp.sum(w["b"])

    t = jnp.array([1.0, 2.0])
    for loss, want in ((lambda t: jnp.sum(solution(t)["a"]), [2.0, 2.0]), (half, [12.0, 48.0])):
        for outer, inner in ((jax.jacfwd, jax.grad), (jax.jacrev, jax.jacrev)):
            np.testing.assert_allclose(outer(inner(loss))(t), np.diag(want), rtol=1e-12)


@pytest.mark.parametrize(
    "method", [*_METHODS, implicit.GMRES(), implicit.Nystrom()], ids=lambda m: type(m).__name__
)
def test_a_w_without_an_entry(method):
    gradient, report = implicit.hypergradient(
        lambda w, t: jnp.sum(w) + jnp.sum(t),
        lambda w, t: 2 * w,
        jnp.zeros(0),
        jnp.ones(2),
        method=method,
    )
    np.testing.assert_allclose(gradient, 1.0)
    assert not report.failed


def test_a_first_guess_may_be_of_any_precision():
    for guess in (jnp.zeros(2, int), np.zeros(2, np.float32), jnp.zeros(2)):
        gradient, _ = implicit.hypergradient(
            lambda w, t: jnp.sum(w),
            lambda w, t: 2 * w - t,
            jnp.ones(2, jnp.float32),
            jnp.ones(2, jnp.float32),
            adjoint_init=guess,
        )
        assert gradient.dtype == jnp.float32
        np.testing.assert_allclose(gradient, 0.5, rtol=1e-5)


def test_the_size_of_the_jacobian_does_not_matter():
    for factor in (1e-30, 1e30):
        u, report = implicit.NormalCG().solve(
            lambda v, factor=factor: jnp.float32(factor) * v, jnp.ones(2, jnp.float32)
        )
        assert report.status == implicit.Status.CONVERGED
        np.testing.assert_allclose(u * jnp.float32(factor), 1.0, rtol=1e-5)


@pytest.mark.parametrize("where", ["w0", "theta"])
def test_complex_is_refused(where):
    values = {"w0": jnp.ones(2), "theta": jnp.ones(2)}
    values[where] = values[where] + 1j
    with pytest.raises(InputError, match=f"{where} is complex128, but only real numbers"):
        implicit.hypergradient(
            lambda w, t: jnp.sum(w.real), lambda w, t: w, values["w0"], values["theta"]
        ) if where == "theta" else implicit.root(
            lambda w, t: w - t, lambda w0, t: t, values["w0"], values["theta"]
        )
    with pytest.raises(InputError, match="only real numbers"):
        implicit.root(lambda w, t: w - t.real, lambda w0, t: t.real, jnp.ones(2), jnp.ones(2) + 1j)
