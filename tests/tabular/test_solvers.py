import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import tabular
from omd.errors import InputError

METHODS = ("value_iteration", "newton", "modified_policy_iteration")

# design §4: the fixed point of figure 3's MDP at temperature 0.01
PAPER_Q = [[0.16364, 0.06282], [1.89091, 0.66282]]


@pytest.mark.parametrize("method", METHODS)
def test_paper_mdp(method):
    mdp = tabular.paper_mdp()
    solution = tabular.solve(mdp, 0.01, method=method)
    np.testing.assert_allclose(solution.q, PAPER_Q, atol=5e-6)
    assert solution.status == tabular.Status.CONVERGED
    best = tabular.greedy_policy(solution.q)
    assert float(tabular.expected_return(mdp, best)) == pytest.approx(1.02727, abs=5e-6)


def test_paper_mdp_by_hand():
    """Always action 0: v = (−0.45, 0.5) + 0.9 [[0.7, 0.3], [0.2, 0.8]] v, solved by Cramer."""
    a, b, c, d = 1 - 0.63, -0.27, -0.18, 1 - 0.72
    determinant = a * d - b * c
    v = [(-0.45 * d - 0.5 * b) / determinant, (0.5 * a + 0.45 * c) / determinant]
    solution = tabular.solve(tabular.paper_mdp(), operator="hard")
    np.testing.assert_allclose(solution.v, v, rtol=1e-12)
    np.testing.assert_allclose(solution.q[:, 0], v, rtol=1e-12)
    q1 = [-0.1 + 0.9 * (0.99 * v[0] + 0.01 * v[1]), 0.5 + 0.9 * (0.99 * v[0] + 0.01 * v[1])]
    np.testing.assert_allclose(solution.q[:, 1], q1, rtol=1e-12)


def test_one_state_by_hand():
    """v = α log(e^{1/α} + e^{0/α}) + γ v."""
    mdp = tabular.MDP(np.ones((1, 2, 1)), [[1.0, 0.0]], 0.5)
    for temperature in (0.1, 1.0, 10.0):
        v = 2 * temperature * np.log1p(np.exp(-1 / temperature)) + 2
        solution = tabular.solve(mdp, temperature)
        np.testing.assert_allclose(solution.v, [v], rtol=1e-10)
        np.testing.assert_allclose(solution.q, [[1 + v / 2, v / 2]], rtol=1e-10)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("operator", ["soft", "hard"])
def test_all_methods_and_both_storages_agree(operator, sparse):
    reference = tabular.garnet(3, 12, 4, 3)
    mdp = tabular.garnet(3, 12, 4, 3, sparse=sparse)
    for temperature in (0.01, 1.0):
        wanted = tabular.solve(reference, temperature, operator=operator, method="newton").q
        for method in METHODS:
            solution = tabular.solve(
                mdp, temperature, operator=operator, method=method, tolerance=1e-11
            )
            assert solution.status == tabular.Status.CONVERGED
            assert solution.residual <= 1e-11
            np.testing.assert_allclose(solution.q, wanted, rtol=1e-9)


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.999])
def test_grid_that_mixes_slowly(discount):
    mdp = tabular.grid_world(3, 4, slip=0.2, discount=discount, sparse=True)
    found = [tabular.solve(mdp, operator="hard", method=m, tolerance=1e-12).q for m in METHODS]
    np.testing.assert_allclose(found[0], found[1], atol=1e-8)
    np.testing.assert_allclose(found[2], found[1], atol=1e-8)


def test_the_residual_is_that_of_the_answer_and_bounds_the_error():
    mdp = tabular.garnet(0, 12, 4, 3, discount=0.9)
    exact = tabular.solve(mdp, 0.1, method="newton").q
    for tolerance in (1e-2, 1e-5):
        solution = tabular.solve(mdp, 0.1, method="value_iteration", tolerance=tolerance)
        residual = np.abs(solution.q - tabular.bellman(mdp, solution.q, 0.1)).max()
        np.testing.assert_allclose(solution.residual, residual, rtol=1e-6)
        assert np.abs(solution.q - exact).max() <= solution.residual / (1 - 0.9)


@pytest.mark.parametrize("method", METHODS)
def test_too_few_iterations_are_said(method):
    mdp = tabular.garnet(0, 12, 4, 3, discount=0.99)
    solution = tabular.solve(mdp, method=method, max_iterations=1)
    assert solution.status == tabular.Status.MAX_ITERATIONS
    assert solution.iterations == 1
    assert solution.residual > 1e-6
    assert "allow more iterations" in solution.message


def test_a_tolerance_beyond_the_precision_is_not_claimed():
    mdp = tabular.garnet(0, 12, 4, 3, discount=0.99)
    solution = tabular.solve(mdp, method="newton", tolerance=1e-30)
    assert solution.residual > 0
    assert solution.status == tabular.Status.MAX_ITERATIONS


def test_overflow_is_said():
    mdp = tabular.MDP(np.ones((1, 1, 1)), [[1e308]], 0.99)
    assert tabular.solve(mdp).status == tabular.Status.NON_FINITE


def test_a_warm_start_at_the_solution_ends_at_once():
    mdp = tabular.garnet(0, 12, 4, 3, discount=0.99)
    solution = tabular.solve(mdp, 0.1, method="value_iteration")
    again = tabular.solve(mdp, 0.1, method="value_iteration", q0=solution.q)
    assert solution.iterations > 1000
    assert again.iterations <= 2


def test_float32_reaches_its_default_tolerance():
    with jax.enable_x64(False):
        for states in (12, 300):
            mdp = tabular.garnet(0, states, 4, 3, discount=0.99)
            solution = tabular.solve(mdp, 0.1)
            assert solution.q.dtype == jnp.float32
            assert solution.status == tabular.Status.CONVERGED
            evaluation = tabular.evaluate(mdp, tabular.softmax_policy(solution.q, 0.1))
            assert evaluation.status == tabular.Status.CONVERGED


@pytest.mark.parametrize("method", ["dense", "sweeps"])
@pytest.mark.parametrize("sparse", [False, True])
def test_policy_evaluation_is_the_sum_of_a_long_rollout(method, sparse):
    mdp = tabular.garnet(1, 12, 4, 3, discount=0.9, sparse=sparse)
    policy = tabular.softmax_policy(mdp.reward, 0.3)
    solution = tabular.evaluate(mdp, policy, method=method)

    transition = tabular.garnet(1, 12, 4, 3, discount=0.9).transition
    chain = jnp.einsum("sa,sat->st", policy, transition)
    earned = (policy * mdp.reward).sum(-1)
    distribution, total = mdp.initial, 0.0
    for t in range(400):
        total += 0.9**t * distribution @ earned
        distribution = distribution @ chain
    assert float(mdp.initial @ solution.v) == pytest.approx(float(total), rel=1e-9)
    assert float(tabular.expected_return(mdp, policy)) == pytest.approx(float(total), rel=1e-9)
    np.testing.assert_allclose((policy * solution.q).sum(-1), solution.v, rtol=1e-8)
    assert solution.status == tabular.Status.CONVERGED


def test_returns_of_an_evaluation_that_ran_out_are_nan():
    mdp = tabular.garnet(1, 12, 4, 3, discount=0.99)
    policy = tabular.softmax_policy(mdp.reward, 0.3)
    short = {"method": "sweeps", "max_iterations": 2}
    assert tabular.evaluate(mdp, policy, **short).status == tabular.Status.MAX_ITERATIONS
    assert np.isnan(tabular.expected_return(mdp, policy, **short))


def test_lanes_are_the_runs_one_by_one(random_mdps):
    mdps = random_mdps(0, 6, states=12, actions=4)
    for method in ("newton", "modified_policy_iteration"):
        together = jax.jit(jax.vmap(lambda m, method=method: tabular.solve(m, 0.1, method=method)))(
            mdps
        )
        for i in range(6):
            alone = tabular.solve(jax.tree.map(lambda x, i=i: x[i], mdps), 0.1, method=method)
            np.testing.assert_allclose(together.q[i], alone.q, rtol=1e-12)
            assert together.iterations[i] == alone.iterations
            assert together.status[i] == alone.status


def test_vanishing_temperature_gives_the_hard_fixed_point():
    mdp = tabular.garnet(0, 12, 4, 3)
    hard = tabular.solve(mdp, operator="hard").q
    gap = [float(np.abs(tabular.solve(mdp, t).q - hard).max()) for t in (1.0, 1e-1, 1e-2, 1e-8)]
    # soft values are above by at most α log A / (1 − γ)
    assert 0 < gap[2] < gap[1] < gap[0] <= np.log(4) / (1 - 0.95)
    assert gap[3] <= 1e-8 * np.log(4) / (1 - 0.95) + 1e-12


def test_bad_input_to_solve():
    mdp = tabular.paper_mdp()
    with pytest.raises(
        InputError, match=r"temperature above 0, but it is 0; use operator=\"hard\""
    ):
        tabular.solve(mdp, 0)
    with pytest.raises(InputError, match="but it is nan"):
        tabular.solve(mdp, float("nan"))
    with pytest.raises(InputError, match=r"shape \(2,\); vmap"):
        tabular.solve(mdp, jnp.ones(2))
    with pytest.raises(InputError, match="operator must be soft or hard, but is 'max'"):
        tabular.solve(mdp, operator="max")
    with pytest.raises(InputError, match="but is 'vi'"):
        tabular.solve(mdp, method="vi")
    with pytest.raises(InputError, match=r"q0 has shape \(3,\) .* \(2, 2\)"):
        tabular.solve(mdp, q0=jnp.zeros(3))
    with pytest.raises(InputError, match="but is 'exact'"):
        tabular.evaluate(mdp, mdp.reward, method="exact")
    with pytest.raises(InputError, match=r"policy has shape \(2,\)"):
        tabular.evaluate(mdp, jnp.ones(2))
    with pytest.raises(InputError, match=r"policy at state 1 is \[0.5, 0.25\] and sums to 0.75"):
        tabular.expected_return(mdp, jnp.asarray([[0.5, 0.5], [0.5, 0.25]]))
    assert tabular.solve(mdp, 0, operator="hard").status == tabular.Status.CONVERGED
