import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import tabular

Q = np.asarray([[1.0, 3.0], [2.0, -1.0]])


def test_values_and_policies_by_hand():
    for temperature in (0.5, 2.0):
        value = temperature * np.log(np.exp(Q / temperature).sum(-1))
        np.testing.assert_allclose(tabular.soft_value(jnp.asarray(Q), temperature), value)
        weights = np.exp(Q / temperature)
        np.testing.assert_allclose(
            tabular.softmax_policy(jnp.asarray(Q), temperature),
            weights / weights.sum(-1, keepdims=True),
        )
    np.testing.assert_array_equal(tabular.hard_value(jnp.asarray(Q)), [3, 2])
    np.testing.assert_array_equal(tabular.greedy_policy(jnp.asarray(Q)), [[0, 1], [1, 0]])


def test_operators_by_hand():
    mdp = tabular.paper_mdp()
    q = jnp.asarray(Q)
    next_value = [[0.7 * 3 + 0.3 * 2, 0.99 * 3 + 0.01 * 2], [0.2 * 3 + 0.8 * 2, 0.99 * 3 + 0.02]]
    wanted = np.asarray(mdp.reward) + 0.9 * np.asarray(next_value)
    np.testing.assert_allclose(tabular.bellman(mdp, q, None), wanted)
    np.testing.assert_allclose(
        tabular.hard_bellman(mdp.transition, mdp.reward, mdp.discount, q), wanted
    )
    # log-sum-exp at 1e-3 is the maximum
    np.testing.assert_allclose(tabular.bellman(mdp, q, 1e-3), wanted)
    np.testing.assert_allclose(tabular.bellman_error(mdp, q, None), ((Q - wanted) ** 2).sum())


@pytest.mark.parametrize("temperature", [None, 0.01, 1.0])
def test_operators_contract_by_the_discount_and_see_sparse_as_dense(temperature, random_mdps):
    mdps = random_mdps(0, 50)
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(50, 4, 3)) * 10 for _ in range(2))
    bellman = jax.jit(jax.vmap(lambda m, q: tabular.bellman(m, q, temperature)))
    after = np.abs(bellman(mdps, a) - bellman(mdps, b)).max((1, 2))
    assert (after <= np.asarray(mdps.discount) * np.abs(a - b).max((1, 2)) * (1 + 1e-12)).all()

    dense, lists = tabular.garnet(0, 12, 3, 4), tabular.garnet(0, 12, 3, 4, sparse=True)
    q = rng.normal(size=(12, 3))
    backup = jax.jit(lambda m: tabular.bellman(m, q, temperature))
    np.testing.assert_allclose(backup(lists), backup(dense), rtol=1e-12)


def test_derivatives_of_the_soft_value():
    """∂/∂q is the softmax policy and ∂/∂α its entropy, also where q/α is large."""
    q = jnp.asarray([100.0, 100.02, 99.0])
    for temperature in (0.01, 1.0):
        policy = tabular.softmax_policy(q, temperature)
        entropy = -(policy * np.log(np.maximum(policy, 1e-300))).sum()
        slope, in_temperature = jax.jit(jax.grad(tabular.soft_value, argnums=(0, 1)))(
            q, temperature
        )
        np.testing.assert_allclose(slope, policy, rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(in_temperature, entropy, rtol=1e-9)


def test_a_vanishing_temperature_does_not_overflow():
    q = jnp.asarray([1e3, -1e3, 1e3 - 1e-9])
    for temperature in (1e-300, 1e-9, 1e300):
        assert np.isfinite(tabular.softmax_policy(q, temperature)).all()
    assert float(tabular.soft_value(q, 1e-300)) == 1e3
    np.testing.assert_allclose(tabular.softmax_policy(q, 1e300), np.full(3, 1 / 3))


def test_operators_run_inside_scan():
    mdp = tabular.paper_mdp()
    q, _ = jax.jit(
        lambda q: jax.lax.scan(lambda q, _: (tabular.bellman(mdp, q, 0.01), None), q, None, 300)
    )(mdp.reward)
    np.testing.assert_allclose(q, tabular.solve(mdp, 0.01).q, atol=1e-10)
