"""Hypergradients from minibatches, beside those of all data."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from omd import implicit

_RNG = np.random.default_rng(0)
_TRUE = _RNG.normal(size=4)


def _data(count, noise=0.7):
    x = _RNG.normal(size=(count, 4))
    y = (x @ _TRUE + noise * _RNG.normal(size=count) > 0).astype(float)
    return x.reshape(8, -1, 4), y.reshape(8, -1)


_TRAIN, _HELD_OUT = _data(64), _data(64)


def _logistic(w, batch):
    x, y = batch
    logits = x @ w
    return jnp.mean(jnp.logaddexp(0.0, logits) - y * logits)


def _inner(w, theta, batch):
    return _logistic(w, batch) + jnp.sum(jnp.exp(theta) * w**2) / 2


def _outer(w, theta, batch):
    return _logistic(w, batch) + 0.02 * jnp.sum(theta**2)


def _all(data):
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), data)


def _solution(theta):
    def newton(_, w):
        return w - jnp.linalg.solve(
            jax.hessian(_inner)(w, theta, _all(_TRAIN)), jax.grad(_inner)(w, theta, _all(_TRAIN))
        )

    return jax.lax.fori_loop(0, 20, newton, jnp.zeros(4))


def _value(theta):
    w = implicit.root(
        lambda w, theta: jax.grad(_inner)(w, theta, _all(_TRAIN)),
        lambda w0, theta: _solution(theta),
        jnp.zeros(4),
        theta,
        hypergradient=implicit.Dense(),
    )
    return _outer(w, theta, _all(_HELD_OUT))


_THETA = np.linspace(-1.0, 0.0, 4)


def test_its_mean_over_minibatches_is_the_truncated_series_of_all_data():
    w, step = _solution(_THETA) + 0.1, 0.3
    want, _ = implicit.hypergradient(
        lambda w, theta: _outer(w, theta, _all(_HELD_OUT)),
        lambda w, theta: jax.grad(_inner)(w, theta, _all(_TRAIN)),
        w,
        _THETA,
        method=implicit.Neumann(3, step),
    )
    indices = jnp.asarray(list(itertools.product(range(8), repeat=2)))

    @jax.jit
    def one(pair, cross, outer):
        return implicit.stochastic_neumann(
            _outer,
            _inner,
            w,
            _THETA,
            outer_batch=jax.tree.map(lambda x: jnp.asarray(x)[outer], _HELD_OUT),
            cross_batch=jax.tree.map(lambda x: jnp.asarray(x)[cross], _TRAIN),
            batches=jax.tree.map(lambda x: jnp.asarray(x)[pair], _TRAIN),
            step=step,
        )

    every = jnp.arange(8)
    grid = jax.vmap(jax.vmap(jax.vmap(one, (0, None, None)), (None, 0, None)), (None, None, 0))
    found = grid(indices, every, every)
    np.testing.assert_allclose(found.mean((0, 1, 2)), want, rtol=1e-10)
    assert float(jnp.std(found[..., 0])) > 1e-3

    # one minibatch for all factors is biased
    same = jax.vmap(lambda i: one(jnp.stack([i, i]), i, 0))(every)
    free = grid(indices, every, jnp.array([0]))
    assert float(jnp.abs(same.mean(0) - free.mean((0, 1, 2))).max()) > 1e-5


def test_soba_on_all_data_finds_the_minimum():
    method = implicit.Soba(_outer, _inner, 0.5, 0.3)
    train, held_out = _all(_TRAIN), _all(_HELD_OUT)
    state = jax.lax.fori_loop(
        0,
        4000,
        lambda _, s: method.update(s, train, held_out),
        method.init(jnp.zeros(4), jnp.asarray(_THETA)),
    )
    np.testing.assert_allclose(state.w, _solution(state.theta), rtol=1e-3, atol=1e-4)
    assert float(jnp.linalg.norm(jax.grad(_value)(state.theta))) < 1e-4
    want = jnp.linalg.solve(
        jax.hessian(_inner)(state.w, state.theta, train),
        jax.grad(_outer)(state.w, state.theta, held_out),
    )
    np.testing.assert_allclose(state.u, want, rtol=1e-3, atol=1e-4)


def test_variance_reduction_beats_it_at_the_same_constant_steps():
    """The published order: SABA converges where SOBA at constant steps only hovers."""
    steps, updates = (0.3, 0.1), 12_000
    keys = jax.random.split(jax.random.key(0), updates)
    drawn = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, 8))(keys)
    soba = implicit.Soba(_outer, _inner, *steps)
    saba = implicit.Saba(_outer, _inner, *steps)

    def pick(data, i):
        return jax.tree.map(lambda x: jnp.asarray(x)[i], data)

    @jax.jit
    def run():
        one, _ = jax.lax.scan(
            lambda s, ij: (soba.update(s, pick(_TRAIN, ij[0]), pick(_HELD_OUT, ij[1])), None),
            soba.init(jnp.zeros(4), jnp.asarray(_THETA)),
            drawn,
        )
        other, _ = jax.lax.scan(
            lambda s, ij: (saba.update(s, _TRAIN, ij[0], _HELD_OUT, ij[1]), None),
            saba.init(jnp.zeros(4), jnp.asarray(_THETA), _TRAIN, _HELD_OUT),
            drawn,
        )
        return one.theta, other.theta

    def error(theta):
        return float(jnp.linalg.norm(jax.grad(_value)(theta)))

    hovering, converged = map(error, run())
    assert converged < 1e-5
    assert hovering > 10 * converged
