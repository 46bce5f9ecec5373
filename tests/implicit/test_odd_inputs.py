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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: implicit.kkt(lambda x, t: x)(implicit.KKT(jnp.ones(2)), 0.0), "a scalar"),
        (lambda: implicit.kkt(lambda x, t: x @ x)(jnp.ones(2), 0.0), "implicit.KKT, not"),
        (lambda: implicit.projections.ball(jax.random.key(0)), "must hold numbers"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_in_a_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
