"""Python floats, keys and values of the wrong kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import implicit
from omd.errors import InputError


def test_stochastic_methods_take_python_floats():
    def inner(w, theta, batch):
        return jnp.mean((w - theta - batch) ** 2) / 2

    batches = jnp.zeros((2, 3))
    state = implicit.Soba(inner, inner, 0.5, 0.5).init(1.0, 0.5)
    assert state.u == 0
    assert (
        implicit.Saba(inner, inner, 0.5, 0.5).init(1.0, 0.5, batches, batches).inner_mean[0] == 0.5
    )
    found = implicit.stochastic_neumann(
        inner,
        inner,
        1.0,
        0.5,
        outer_batch=batches[0],
        cross_batch=batches[0],
        batches=batches,
        step=1.0,
    )  # u = ∂J/∂w, so that −½ of the direct part and +½ of the implicit one cancel
    np.testing.assert_allclose(found, 0.0, atol=1e-12)


def test_kkt_has_leaves_without_a_derivative():
    constraint = implicit.kkt(lambda x, t: jnp.sum((x["a"] - t) ** 2) / 2)
    h = constraint(implicit.KKT({"a": jnp.ones(2), "key": jax.random.key(0), "n": 3}), 0.5)
    np.testing.assert_allclose(h.primal["a"], 0.5)


def halved(method, factors=None):
    """d/dθ Σ w for w = θ/2 in each of two entries."""

    def loss(theta):
        w = implicit.root(
            lambda w, t: 2 * w - t,
            lambda w0, t: (t / 2, factors) if factors else t / 2,
            jnp.zeros(2),
            theta,
            hypergradient=method,
            has_factors=factors is not None,
        )
        return jnp.sum(w)

    return jax.grad(loss)(jnp.ones(2))


def checked(dtype="float32", **options):
    return implicit.gradcheck(
        lambda w, t: jnp.sum(w**2),
        lambda w, t: 2 * w - t,
        lambda w0, t: t / 2,
        jnp.zeros(2, dtype),
        jnp.ones(2, dtype),
        **options,
    )


def half(v):
    return (v / 2).astype(jnp.bfloat16)


def test_preconditioners_and_factors_may_work_in_half_precision():
    np.testing.assert_allclose(halved(implicit.CG(preconditioner=half)), 0.5, rtol=1e-6)
    np.testing.assert_allclose(halved(None, factors=half), 0.5, rtol=1e-6)


def test_gradcheck_takes_methods_themselves_and_half_precision():
    found = checked("bfloat16", methods=implicit.CG())
    assert found.agreeing == ("cg",)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: implicit.kkt(lambda x, t: x)(implicit.KKT(jnp.ones(2)), 0.0), "a scalar"),
        (lambda: implicit.kkt(lambda x, t: x @ x)(jnp.ones(2), 0.0), "implicit.KKT, not"),
        (lambda: implicit.projections.ball(jax.random.key(0)), "must hold numbers"),
        (lambda: implicit.projections.ball(jnp.ones(2), "1"), "radius must be a number, not '1'"),
        (lambda: implicit.projections.ball(jnp.ones(2), jnp.ones(3)), r"of the shape \(2,\)"),
        (lambda: implicit.projections.box(jnp.ones(2), None), "low must be one number"),
        (lambda: implicit.projections.box(jnp.ones(2), 0, "b"), "high must be one number"),
        (lambda: halved(implicit.CG(preconditioner=lambda v: v[:1])), r"expected .*\[2\], got"),
        (lambda: halved(implicit.GMRES(preconditioner=lambda v: 1j * v)), "only real numbers"),
        (lambda: halved(implicit.CG(preconditioner=3)), "a function or a linear operator"),
        (lambda: halved(None, factors=lambda v: None), "expected .* got nothing"),
        (lambda: checked(methods=3), "methods must be methods or their names, not 3"),
        (lambda: checked(methods=["cg", implicit.CG()]), "cg twice"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_in_a_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
