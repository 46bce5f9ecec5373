"""What the methods cost: no matrix but where promised, and nothing at all for the identity."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import implicit
from omd.implicit import registry

_PROMISED = {"dense", "pseudo-inverse"}


def _largest(method, n):
    """Numbers in the largest array of the lowered program, for a tridiagonal Jacobian."""

    def constraint(w, theta):
        return theta * w + jnp.tanh(w) + 0.1 * jnp.roll(w, 1) - 1.0

    def gradient(w, theta):
        return implicit.hypergradient(
            lambda w, theta: jnp.sum(w**2), constraint, w, theta, method=method, check=True
        )

    shape = jax.ShapeDtypeStruct((n,), jnp.float64)
    text = jax.jit(gradient).lower(shape, jax.ShapeDtypeStruct((), jnp.float64)).as_text()
    shapes = re.findall(r"tensor<((?:\d+x)+)[a-z]", text)
    return max(math.prod(int(d) for d in shape.split("x") if d) for shape in shapes)


@pytest.mark.parametrize(
    "name", [name for name, kind in registry.classes().items() if not kind.needs_least_squares]
)
def test_only_dense_methods_form_a_matrix(name):
    n = 100_000 if name not in _PROMISED else 400
    largest = _largest(implicit.get(name), n)
    if name in _PROMISED:
        assert largest >= n * n
    else:
        assert largest <= 40 * n  # GMRES keeps 21 vectors, Nyström 10


def test_large_problem_is_solved():
    n = 100_000
    theta = jnp.linspace(1.0, 3.0, n)
    right = jnp.sin(jnp.arange(n))

    def constraint(w, theta):
        return theta * w + 0.2 * (2 * w - jnp.roll(w, 1) - jnp.roll(w, -1)) - right

    grad, report = jax.jit(
        lambda w, theta: implicit.hypergradient(
            lambda w, theta: jnp.sum(right * w), constraint, w, theta, method=implicit.CG()
        )
    )(jnp.ones(n), theta)
    assert report.status == implicit.Status.CONVERGED
    assert np.all(np.isfinite(grad))


def test_identity_adds_no_product():
    """Compiled, it takes the operations of eq. (13) written by hand, and no more."""
    problem = implicit.problems.get("network")
    w, theta, aux = problem.w0, problem.theta, problem.aux

    def by_hand(w, theta):
        g = jax.grad(problem.outer_loss)(w, theta, *aux)
        _, vjp = jax.vjp(lambda t: problem.constraint(w, t, *aux), theta)
        return vjp(jax.tree.map(jnp.negative, g))[0]

    def explicit(w, theta, method=implicit.Identity()):  # noqa: B008
        return implicit.hypergradient(
            problem.outer_loss, problem.constraint, w, theta, *aux, method=method
        )[0]

    def through_root(w, theta):
        def loss(theta):
            w_star = implicit.root(
                problem.constraint,
                lambda w, *_: w,
                w,
                theta,
                *aux,
                hypergradient=implicit.Identity(),
            )
            return problem.outer_loss(w_star, theta, *aux)

        return jax.grad(loss)(theta)

    def flops(f):
        return jax.jit(f).lower(w, theta).compile().cost_analysis()["flops"]

    base = flops(by_hand)
    assert flops(explicit) <= 1.02 * base
    assert flops(through_root) <= 1.02 * base
    assert flops(lambda w, t: explicit(w, t, implicit.Neumann(2))) > 1.2 * base
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12),
        jax.jit(explicit)(w, theta),
        jax.jit(by_hand)(w, theta),
    )
