"""Derivatives of Q*, V*, π and J in P, r, γ and the temperature, against finite differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import sparse
from jax.flatten_util import ravel_pytree

from omd import implicit, tabular
from omd.tabular import adjoint

# sixth-order central differences: Σ c (f(x + k h) − f(x − k h)) / h
STENCIL = ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60))


def finite_differences(f, x, step):
    """∂f/∂x of a vector-valued f at a flat x, one row an output."""

    def along(direction):
        return sum(
            c * (f(x + k * step * direction) - f(x - k * step * direction)) / step
            for k, c in STENCIL
        )

    return jax.vmap(along, out_axes=1)(jnp.eye(x.size))


def assert_derivative(f, x, step):
    exact, approximate = jax.jit(lambda x: (jax.jacrev(f)(x), finite_differences(f, x, step)))(x)
    np.testing.assert_allclose(exact, approximate, rtol=1e-7, atol=1e-9)


def parameters(mdp, temperature):
    return (mdp.transition, mdp.reward, mdp.discount, temperature)


def objectives(theta, true, **settings):
    """[J, Bellman error] in the true MDP of planning in the model θ, eq. (2) and (6)."""
    transition, reward, discount, temperature = theta
    model = tabular.MDP(transition, reward, discount)
    q = tabular.solve(model, temperature, tolerance=1e-13, **settings).q
    policy = tabular.softmax_policy(q, temperature)
    return jnp.stack(
        [
            tabular.expected_return(true, policy),
            tabular.bellman_error(true, q, temperature),
        ]
    )


def test_gradients_of_return_and_bellman_error_on_100_mdps(random_mdps):
    true, model = random_mdps(0, 100), random_mdps(1, 100)
    temperature = jnp.asarray(np.random.default_rng(2).uniform(0.1, 0.5, 100))
    theta = parameters(model, temperature)

    @jax.jit
    @jax.vmap
    def both(theta, true):
        exact = jax.jacrev(objectives)(theta, true)
        flat, unravel = ravel_pytree(theta)
        step = 5e-3 * theta[3] * (1 - theta[2])
        approximate = finite_differences(lambda x: objectives(unravel(x), true), flat, step)
        return exact, jax.vmap(unravel)(approximate)

    exact, approximate = both(theta, true)
    for got, wanted in zip(exact, approximate, strict=True):
        got, wanted = (x.reshape(100, 2, -1) for x in (got, wanted))
        error = np.linalg.norm(got - wanted, axis=-1) / np.linalg.norm(wanted, axis=-1)
        assert error.max() <= 1e-7


def test_paper_mdp_at_its_own_temperature():
    mdp = tabular.paper_mdp()
    theta = parameters(mdp, jnp.asarray(0.01))
    flat, unravel = ravel_pytree(theta)

    def values(x):
        transition, reward, discount, temperature = unravel(x)
        model = tabular.MDP(transition, reward, discount)
        return tabular.solve(model, temperature, tolerance=1e-14).q.ravel()

    assert_derivative(values, flat, 1e-5)


def test_hard_operator_away_from_ties(random_mdps):
    mdp = jax.tree.map(lambda x: x[0], random_mdps(3, 1))
    flat, unravel = ravel_pytree((mdp.transition, mdp.reward, mdp.discount))

    def values(x):
        return tabular.solve(tabular.MDP(*unravel(x)), operator="hard").v

    assert_derivative(values, flat, 1e-5)


def test_tied_actions_share_the_gradient():
    mdp = tabular.MDP(np.ones((1, 3, 1)), [[1.0, 1.0, 0.0]], 0.5)

    def value(reward):
        model = eqx.tree_at(lambda m: m.reward, mdp, reward)
        return tabular.solve(model, operator="hard").v[0]

    np.testing.assert_allclose(jax.grad(value)(mdp.reward), [[1.0, 1.0, 0.0]])


def with_model(mdp, theta):
    """The MDP with other transition weights and rewards."""
    weights, reward = theta
    where = (
        (lambda m: (m.transition.probability, m.reward))
        if mdp.is_sparse
        else (lambda m: (m.transition, m.reward))
    )
    return eqx.tree_at(where, mdp, (weights, reward))


def gradient_of_return(mdp, **settings):
    def objective(theta):
        q = tabular.solve(with_model(mdp, theta), 0.1, tolerance=1e-13, **settings).q
        return tabular.expected_return(mdp, tabular.softmax_policy(q, 0.1))

    weights = mdp.transition.probability if mdp.is_sparse else mdp.transition
    return jax.jit(jax.grad(objective))((weights, mdp.reward))


def test_sparse_gradient_is_the_dense_one_at_the_successors():
    """300 states are beyond the dense solves: sweeps forward and backward, twice."""
    settings = {"seed": 1, "states": 300, "actions": 3, "branching": 4, "discount": 0.9}
    dense, lists = tabular.garnet(**settings), tabular.garnet(**settings, sparse=True)
    wanted = gradient_of_return(dense, hypergradient=implicit.GMRES(rtol=1e-13), method="newton")
    got = gradient_of_return(lists)
    at_successors = jnp.take_along_axis(wanted[0], lists.transition.index, axis=-1)
    np.testing.assert_allclose(got[0], at_successors, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(got[1], wanted[1], rtol=1e-6, atol=1e-9)


def test_gradient_flows_to_the_data_of_a_bcoo_matrix():
    mdp = tabular.garnet(0, 10, 2, 3)
    table = np.asarray(mdp.transition.reshape(20, 10))
    matrix = sparse.BCOO((table[table != 0], np.argwhere(table)), shape=table.shape)

    def total(data):
        transition = sparse.BCOO((data, matrix.indices), shape=matrix.shape)
        return tabular.solve(tabular.MDP(transition, mdp.reward, 0.9), 0.1).v.sum()

    def total_dense(transition):
        return tabular.solve(tabular.MDP(transition, mdp.reward, 0.9), 0.1).v.sum()

    wanted = jax.jit(jax.grad(total_dense))(mdp.transition).reshape(20, 10)
    got = jax.jit(jax.grad(total))(matrix.data)
    np.testing.assert_allclose(got, wanted[tuple(matrix.indices.T)], rtol=1e-8)


@pytest.mark.parametrize("discount", [0.5, 0.999])
def test_sweeps_solve_the_transposed_system(discount):
    rng = np.random.default_rng(0)
    chain = rng.dirichlet(np.full(50, 0.2), size=50)
    g = rng.normal(size=50)
    matrix = np.eye(50) - discount * chain
    solve = jax.jit(
        lambda g, steps: tabular.Sweeps(discount, 1e-12, steps).solve(lambda v: matrix.T @ v, g)
    )
    u, report = solve(g, 10_000)
    np.testing.assert_allclose(u, np.linalg.solve(matrix.T, g), rtol=1e-8)
    assert report.status == implicit.Status.CONVERGED
    assert report.residual <= 1e-12
    # by the sum of u: without it, 0.999 would take 27 000 sweeps
    assert report.iterations < 200

    _, report = solve(g, 3)
    assert report.status == implicit.Status.MAX_STEPS
    assert report.residual > 1e-12


def test_evaluation_by_sweeps_has_the_gradient_of_the_closed_form():
    mdp = tabular.garnet(2, 300, 3, 4)
    policy = tabular.softmax_policy(mdp.reward, 0.3)

    def total(mdp, policy, method):
        return mdp.initial @ tabular.evaluate(mdp, policy, method=method, tolerance=1e-13).v

    wanted = eqx.filter_jit(eqx.filter_grad(lambda x: total(*x, "dense")))((mdp, policy))
    got = eqx.filter_jit(eqx.filter_grad(lambda x: total(*x, "sweeps")))((mdp, policy))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10), got, wanted)


def test_gradients_under_vmap_and_jit_are_those_one_by_one(random_mdps):
    mdps = random_mdps(4, 5)

    def start_value(reward, mdp):
        return tabular.solve(eqx.tree_at(lambda m: m.reward, mdp, reward), 0.1).v[0]

    @jax.jit
    def gradient(mdp):
        return jax.grad(start_value)(mdp.reward, mdp)

    together = jax.vmap(gradient)(mdps)
    for i in range(5):
        alone = gradient(jax.tree.map(lambda x, i=i: x[i], mdps))
        np.testing.assert_allclose(together[i], alone, rtol=1e-9)


def test_derivative_in_the_rewards_is_the_discounted_occupancy():
    mdp = tabular.garnet(5, 400, 2, 3, sparse=True, discount=0.97)

    def start_value(reward):
        return mdp.initial @ tabular.solve(eqx.tree_at(lambda m: m.reward, mdp, reward), 0.1).v

    occupancy = jax.jit(jax.grad(start_value))(mdp.reward)
    assert occupancy.min() >= 0
    np.testing.assert_allclose(occupancy.sum(), 1 / (1 - 0.97), rtol=1e-9)


def test_gradient_in_the_initial_guess_is_zero():
    mdp = tabular.paper_mdp()
    gradient = jax.jit(jax.grad(lambda q0: tabular.solve(mdp, q0=q0).q.sum()))(mdp.reward)
    assert (gradient == 0).all()


@pytest.mark.parametrize("states", [20, 300], ids=["dense", "sweeps"])
@pytest.mark.parametrize("sparse", [False, True])
def test_the_theorem_on_v_gives_the_gradient_of_the_theorem_on_q(states, sparse):
    mdp = tabular.garnet(3, states, 3, 4, sparse=sparse)
    weight = jax.random.normal(jax.random.key(0), mdp.reward.shape)
    start = jnp.ones_like(mdp.reward)

    def gradients(**settings):
        def value(reward, discount, temperature):
            model = eqx.tree_at(lambda m: (m.reward, m.discount), mdp, (reward, discount))
            solution = tabular.solve(model, temperature, tolerance=1e-12, q0=start, **settings)
            return (weight * solution.q).sum() + (weight[:, 0] * solution.v).sum()

        return jax.jit(jax.grad(value, argnums=(0, 1, 2)))(mdp.reward, mdp.discount, 0.1)

    for v, q in zip(gradients(), gradients(hypergradient=implicit.Dense()), strict=True):
        np.testing.assert_allclose(v, q, rtol=1e-8, atol=1e-9)


def gradient_of_sum(mdp, **settings):
    def total(reward):
        return tabular.solve(eqx.tree_at(lambda m: m.reward, mdp, reward), **settings).q.sum()

    return jax.jit(jax.grad(total))(mdp.reward)


def test_reports_of_the_adjoint_reach_the_caller():
    reports = []
    jax.block_until_ready(gradient_of_sum(tabular.paper_mdp(), on_report=reports.append))
    jax.effects_barrier()
    assert [int(r.status) for r in reports] == [implicit.Status.CONVERGED]


def test_a_failed_adjoint_gives_nan_and_not_a_wrong_number():
    failing = adjoint.OrNaN(tabular.Sweeps(0.9, rtol=1e-12, max_steps=2))
    assert jnp.isnan(gradient_of_sum(tabular.paper_mdp(), hypergradient=failing)).all()


@pytest.mark.parametrize(("states", "sparse_storage"), [(2, False), (300, True)])
def test_derivative_in_the_discount_of_a_cycle_is_the_analytic_one(states, sparse_storage):
    """A cycle whose first state pays 1 and offers two equal actions, at γ = 0.999 and α = 0.01:
    v₀ = (1 + α log 2) / (1 − γⁿ), so dv₀/dγ = v₀ n γⁿ⁻¹ / (1 − γⁿ)."""
    n, gamma, alpha = states, 0.999, 0.01
    index = np.broadcast_to(((np.arange(n) + 1) % n)[:, None, None], (n, 2, 1))
    lists = tabular.Successors(index.astype(np.int32), np.ones((n, 2, 1)))
    reward = np.zeros((n, 2))
    reward[0] = 1.0
    reward[1:, 1] = -np.inf  # one action elsewhere, so that no entropy is paid there
    transition = lists if sparse_storage else np.asarray(lists.todense())
    mask = np.isfinite(reward)
    reward = np.where(mask, reward, 0)

    def start(gamma):
        return tabular.solve(tabular.MDP(transition, reward, gamma, mask=mask), alpha).v[0]

    value = (1 + alpha * np.log(2)) / (1 - gamma**n)
    wanted = value * n * gamma ** (n - 1) / (1 - gamma**n)
    np.testing.assert_allclose(start(gamma), value, rtol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.grad(start))(gamma), wanted, rtol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(start))(gamma), wanted, rtol=1e-9)
    # at this discount differences are right to a few digits only, whatever the step
    step = 1e-6
    difference = (start(gamma + step) - start(gamma - step)) / (2 * step)
    np.testing.assert_allclose(difference, wanted, rtol=1e-4)


@pytest.mark.parametrize("states", [20, 300], ids=["dense solves", "sweeps"])
def test_gradients_in_jax_default_precision(states):
    """Of sparse tables, by both operators, in both modes: a foreign error or cut numbers before."""

    def gradients(*, forward):
        mdp = tabular.garnet(3, states, 3, 2, discount=0.9, sparse=True)

        def value(weights, reward, discount):
            model = tabular.MDP(tabular.Successors(mdp.transition.index, weights), reward, discount)
            soft = tabular.solve(model, 0.5).v[0]
            return soft + tabular.solve(model, operator="hard").v[0]

        where = (mdp.transition.probability, mdp.reward, mdp.discount)
        reverse = jax.jit(jax.grad(value, argnums=(0, 1, 2)))(*where)
        return (*reverse, jax.jit(jax.jacfwd(value, argnums=2))(*where) if forward else reverse[2])

    wanted = gradients(forward=False)
    with jax.enable_x64(False):
        got = gradients(forward=True)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * np.abs(b).max())
