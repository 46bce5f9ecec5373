"""`root` and the explicit form as blocks in a JAX program."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import implicit
from omd.implicit import Status

_A = np.array([[0.5, 0.2], [-0.3, 0.4]])
_W0 = np.zeros(2)
_THETA = np.array([0.3, 0.4])
_X = np.array([1.0, 2.0])
_DENSE = implicit.Dense()


def _contraction(w, theta, x):
    return jnp.tanh(_A @ w) / 2 + theta * x


_CONSTRAINT = implicit.from_fixed_point(_contraction)


def _solver(w0, theta, x):
    return jax.lax.fori_loop(0, 100, lambda _, w: _contraction(w, theta, x), w0)


def _loss(theta, x, method=_DENSE, w0=_W0):
    w = implicit.root(_CONSTRAINT, _solver, w0, theta, x, hypergradient=method)
    return jnp.sum(w**3) + jnp.sum(theta)


def _reference(theta, x):
    """The same loss through the iterations."""
    w = implicit.Unrolled(100).run(_contraction, _W0, theta, x)
    return jnp.sum(w**3) + jnp.sum(theta)


_gradient = jax.jit(jax.grad(_loss, argnums=(0, 1)))


@pytest.fixture(scope="module")
def expected():
    with jax.enable_x64(True):
        return jax.jit(jax.grad(_reference, argnums=(0, 1)))(_THETA, _X)


def _close(got, want, rtol=1e-10):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12), got, want)


def test_gradient_in_theta_and_aux(expected):
    _close(_gradient(_THETA, _X), expected)


def test_default_method_handles_a_jacobian_that_is_not_symmetric(expected):
    _close(jax.jit(jax.grad(lambda t: _loss(t, _X, method=None)))(_THETA), expected[0], 1e-4)


def test_value_is_the_solvers():
    w = implicit.root(_CONSTRAINT, _solver, _W0, _THETA, _X)
    np.testing.assert_array_equal(w, _solver(_W0, _THETA, _X))


def test_gradient_in_the_first_guess_is_exactly_zero():
    def loss(w0):  # a solver whose answer does depend on w0
        return jnp.sum(
            implicit.root(_CONSTRAINT, lambda w0, *_: w0 + 1, w0, _THETA, _X, hypergradient=_DENSE)
        )

    np.testing.assert_array_equal(jax.jit(jax.grad(loss))(_W0), 0)


def test_vmap_is_the_loop(expected):
    thetas = jnp.stack([_THETA, 2 * _THETA, -_THETA])
    xs = jnp.stack([_X, _X / 2, _X + 1])
    batched = jax.jit(jax.vmap(jax.grad(_loss, argnums=(0, 1))))(thetas, xs)
    for i in range(3):
        _close(jax.tree.map(lambda g, i=i: g[i], batched), _gradient(thetas[i], xs[i]))
    _close(jax.tree.map(lambda g: g[0], batched), expected)

    outside = jax.jit(jax.grad(lambda t: jnp.sum(jax.vmap(_loss)(t, xs))))(thetas)
    _close(outside, batched[0])


def test_closed_over_arrays_get_their_gradient(expected):
    def loss(x):
        w = implicit.root(
            lambda w, theta: _CONSTRAINT(w, theta, x),
            lambda w0, theta: _solver(w0, theta, x),
            _W0,
            _THETA,
            hypergradient=_DENSE,
        )
        return jnp.sum(w**3)

    _close(jax.jit(jax.grad(loss))(_X), expected[1])


def test_integers_keys_and_static_numbers_in_aux():
    def constraint(w, theta, key, index, repeats):
        noise = jax.random.normal(key, (2,))
        return repeats * w - theta[index] - noise

    def solver(w0, theta, key, index, repeats):
        return -constraint(jnp.zeros_like(w0), theta, key, index, repeats) / repeats

    key, index = jax.random.key(0), jnp.array([1, 1])

    def loss(theta, index):
        return jnp.sum(implicit.root(constraint, solver, _W0, theta, key, index, 2))

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1), allow_int=True))
    of_theta, of_index = gradient(_THETA, index)
    np.testing.assert_allclose(of_theta, [0.0, 1.0], atol=1e-4)
    assert of_index.dtype == jax.dtypes.float0

    @jax.jit
    def explicit(theta, key):
        w = solver(_W0, theta, key, index, 2)
        return implicit.hypergradient(
            lambda w, *_: jnp.sum(w), constraint, w, theta, key, index, 2, method=_DENSE
        )

    grads, reports = jax.vmap(explicit, (None, 0))(_THETA, jax.random.split(key, 3))
    np.testing.assert_allclose(grads, [[0.0, 1.0]] * 3, atol=1e-12)
    np.testing.assert_array_equal(reports.status, [Status.CONVERGED] * 3)


def test_inside_a_training_loop_with_plain_numbers():
    """Gradient descent on θ until w³ + w = 2θ has the root 0.7; random w0 from a key."""

    def newton(w0, theta, factor):
        return jax.lax.fori_loop(
            0, 60, lambda _, w: w - (w**3 + w - theta * factor) / (3 * w**2 + 1), w0
        )

    def loss(theta, key):
        w = implicit.root(
            lambda w, theta, factor: w**3 + w - theta * factor,
            newton,
            jax.random.normal(key),
            theta,
            2.0,
            hypergradient=implicit.CG(),
        )
        return (w - 0.7) ** 2

    @jax.jit
    def train(theta):
        def step(theta, key):
            return theta - 0.3 * jax.grad(loss)(theta, key), None

        return jax.lax.scan(step, theta, jax.random.split(jax.random.key(0), 150))[0]

    lanes = jax.vmap(train)(jnp.array([0.1, 1.0, 2.0]))
    np.testing.assert_allclose(lanes, (0.7**3 + 0.7) / 2, rtol=1e-6)
    slope = jax.grad(lambda t: loss(t, jax.random.key(0)))(0.1)  # a Python float as θ
    assert np.isfinite(slope)
    assert slope < 0


def test_pytrees_and_modules():
    """w an Equinox module with functions in it, θ a dictionary with an integer in it."""
    x = jax.random.normal(jax.random.key(1), (12, 2))
    net = eqx.nn.Linear(2, 1, key=jax.random.key(2))
    net = eqx.nn.Sequential([net, eqx.nn.Lambda(lambda y: 2 * y)])

    def inner_loss(net, theta):
        weights = jax.tree.leaves(eqx.filter(net, eqx.is_inexact_array))
        fit = jnp.mean((jax.vmap(net)(x)[:, 0] - x @ theta["goal"]) ** 2)
        return fit + theta["power"] * sum(jnp.sum(leaf**2) for leaf in weights) / 10

    def solver(net, theta):
        return implicit.Unrolled(400).run(
            lambda w, t: eqx.apply_updates(
                w, jax.tree.map(lambda g: -g / 10, eqx.filter_grad(inner_loss)(w, t))
            ),
            net,
            theta,
        )

    def outer_loss(net, theta):
        return jnp.sum(jax.vmap(net)(x) ** 2)

    theta = {"goal": jnp.array([1.0, -0.4]), "power": 2}
    constraint = eqx.filter_grad(inner_loss)

    @eqx.filter_jit
    def both(theta):
        def through(theta, root):
            net_star = root(theta)
            return outer_loss(net_star, theta)

        theorem = eqx.filter_grad(through)(
            theta,
            lambda t: implicit.root(constraint, solver, net, t, hypergradient=_DENSE),
        )
        iterations = eqx.filter_grad(through)(theta, lambda t: solver(net, t))
        explicit, _ = implicit.hypergradient(
            outer_loss, constraint, solver(net, theta), theta, method=_DENSE
        )
        return theorem, iterations, explicit

    theorem, iterations, explicit = both(theta)
    assert theorem["power"] is None
    _close(theorem, iterations, 1e-8)
    _close(explicit, theorem)


def test_explicit_form_is_the_total_derivative(expected):
    w_star = _solver(_W0, _THETA, _X)
    grad, report = jax.jit(
        lambda w, t: implicit.hypergradient(
            lambda w, t, x: jnp.sum(w**3) + jnp.sum(t), _CONSTRAINT, w, t, _X, method=_DENSE
        )
    )(w_star, _THETA)
    _close(grad, expected[0])
    assert report.status == Status.CONVERGED
    assert report.residual < 1e-12


def test_extra_output_passes_through():
    def solver(w0, theta, x):
        return _solver(w0, theta, x), {"steps": jnp.array(100), "theta": theta}

    def loss(theta):
        w, extra = implicit.root(
            _CONSTRAINT, solver, _W0, theta, _X, hypergradient=_DENSE, has_aux=True
        )
        return jnp.sum(w**3) + jnp.sum(extra["theta"]), extra["steps"]

    grad, steps = jax.jit(jax.grad(loss, has_aux=True))(_THETA)
    assert steps == 100
    _close(grad, _gradient(_THETA, _X)[0] - 1)


def test_reports_can_be_watched():
    seen = []
    loss = lambda t: jnp.sum(  # noqa: E731
        implicit.root(
            _CONSTRAINT,
            _solver,
            _W0,
            t,
            _X,
            hypergradient=implicit.CG(),
            throw=False,
            on_report=seen.append,
        )
    )
    jax.block_until_ready(jax.jit(jax.grad(loss))(_THETA))
    jax.effects_barrier()
    (report,) = seen
    assert np.isfinite(report.residual)


def test_black_box_solver_outside_jax(expected):
    def solver(w0, theta, x):
        w, theta, x, a = (np.asarray(v) for v in (w0, theta, x, _A))
        for _ in range(100):
            w = np.tanh(a @ w) / 2 + theta * x
        return jnp.asarray(w)

    def loss(theta):
        return jnp.sum(
            implicit.root(_CONSTRAINT, solver, _W0, theta, _X, hypergradient=_DENSE) ** 3
        ) + jnp.sum(theta)

    _close(jax.grad(loss)(_THETA), expected[0])


@pytest.mark.parametrize("method", [_DENSE, implicit.GMRES(rtol=1e-9)], ids=["dense", "gmres"])
def test_second_derivatives_follow_the_theorem_too(method):
    def curvature(loss):
        return jax.jit(jax.grad(lambda t: jax.grad(loss)(t) @ _X))(_THETA)

    _close(curvature(lambda t: _loss(t, _X, method)), curvature(lambda t: _reference(t, _X)), 1e-7)


def test_unrolled_depends_on_its_steps():
    one = implicit.Unrolled(1).hypergradient(
        lambda w, *_: jnp.sum(w), _contraction, _W0, _THETA, _X
    )
    np.testing.assert_allclose(one[0], _X)  # ∂step/∂θ alone
    assert Status(int(one[1].status)) == Status.NOT_CHECKED
    sizes = [
        len(
            str(
                jax.make_jaxpr(lambda t, k=k: implicit.Unrolled(k).run(_contraction, _W0, t, _X))(
                    _THETA
                )
            )
        )
        for k in (10, 99)
    ]
    assert sizes[0] == sizes[1]  # a scan, not a Python loop
