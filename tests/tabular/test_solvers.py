import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import implicit, tabular
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
    mdp = tabular.MDP(np.full((3, 1, 3), 1 / 3), [[0.1], [0.2], [0.7]], 0.99)
    solution = tabular.solve(mdp, 0.3, method="value_iteration", tolerance=1e-30)
    assert solution.residual > 0
    assert solution.status == tabular.Status.INACCURATE


def test_beyond_double_precision_is_said():
    mdp = tabular.MDP(np.ones((1, 1, 1)), [[1.0]], 1 - 1e-13)
    solution = tabular.solve(mdp, operator="hard")
    assert solution.status == tabular.Status.INACCURATE
    assert "beyond double precision" in solution.message


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
    with pytest.raises(InputError, match=r"operator must be soft or hard, but is 'max'"):
        tabular.solve(mdp, operator="max")
    with pytest.raises(InputError, match=r"but is 'vi'"):
        tabular.solve(mdp, method="vi")
    with pytest.raises(InputError, match=r"q0 has shape \(3,\) .* \(2, 2\)"):
        tabular.solve(mdp, q0=jnp.zeros(3))
    with pytest.raises(InputError, match=r"q0\(0, 1\) is nan; give finite values"):
        tabular.solve(mdp, q0=[[0.0, np.nan], [0.0, 0.0]])
    with pytest.raises(InputError, match="temperature above 0, but it is -1"):
        jax.jit(lambda r: tabular.solve(tabular.MDP(mdp.transition, r, 0.9), -1.0).v)(mdp.reward)
    with pytest.raises(InputError, match=r"but is 'exact'"):
        tabular.evaluate(mdp, mdp.reward, method="exact")
    with pytest.raises(InputError, match=r"policy has shape \(2,\)"):
        tabular.evaluate(mdp, jnp.ones(2))
    with pytest.raises(InputError, match=r"policy at state 1 is \[0.5, 0.25\] and sums to 0.75"):
        tabular.expected_return(mdp, jnp.asarray([[0.5, 0.5], [0.5, 0.25]]))
    assert tabular.solve(mdp, 0, operator="hard").status == tabular.Status.CONVERGED


# found in use: each said "converged" beside another number


def test_a_discount_beyond_float32_is_kept():
    """γ = 1 − 1e-8 is 1.0 in float32."""
    gamma = 1 - 1e-8
    chain = [[[0.3, 0.7]], [[0.5, 0.5]]]
    with jax.enable_x64(False):
        solution = tabular.solve(tabular.MDP(chain, [[1.0], [2.0]], gamma), operator="hard")
    # by Cramer's rule
    a, b, c, d = 1 - gamma * 0.3, -gamma * 0.7, -gamma * 0.5, 1 - gamma * 0.5
    wanted = np.asarray([d - 2 * b, 2 * a - c]) / (a * d - b * c)
    assert wanted[0] > 1.5e8
    np.testing.assert_allclose(solution.v, wanted, rtol=1e-6)
    assert solution.status == tabular.Status.CONVERGED


@pytest.mark.parametrize("double", [True, False])
def test_cliff_walking_near_one(double):
    with jax.enable_x64(double):
        mdp = tabular.from_gymnasium("CliffWalking-v1", discount=0.9999)
        solution = tabular.solve(mdp, operator="hard")
        start = float(mdp.initial @ solution.v)
    assert start == pytest.approx(-(1 - 0.9999**13) / (1 - 0.9999), rel=1e-6)


def test_gradients_near_one_in_float32_are_those_of_float64():
    def gradient():
        mdp = tabular.garnet(3, 50, 3, 4, discount=0.9999)

        def total(reward, discount):
            model = tabular.MDP(mdp.transition, reward, discount)
            return tabular.solve(model, 0.01).v[0]

        return jax.jit(jax.grad(total, argnums=(0, 1)))(mdp.reward, mdp.discount)

    wanted = [np.asarray(x) for x in gradient()]
    with jax.enable_x64(False):
        got = [np.asarray(x) for x in gradient()]
    assert np.isfinite(got[0]).all()
    # rows and rewards were rounded to float32, and the policy at temperature 0.01 feels it
    np.testing.assert_allclose(got[0], wanted[0], rtol=2e-3, atol=2e-3 * wanted[0].max())
    np.testing.assert_allclose(got[1], wanted[1], rtol=1e-4)


def test_integer_tables_count_as_double():
    chain = [[[1, 0], [0, 1]], [[0, 1], [1, 0]]]
    mdp = tabular.MDP(chain, [[16_777_217, 0], [0, 0]], 0.5)
    assert mdp.reward.dtype == jnp.float64
    assert mdp.transition.dtype == jnp.float64
    assert tabular.solve(mdp, operator="hard").v[0] == 2 * 16_777_217


def test_rewards_that_are_not_finite_in_float32_are_refused():
    with jax.enable_x64(False), pytest.raises(InputError, match="not finite in float32"):
        tabular.MDP(np.ones((1, 1, 1)), np.asarray([[1e39]]), 0.9)


def test_value_iteration_reaches_its_own_default():
    mdp = tabular.garnet(0, 12, 4, 3, discount=0.999)
    solution = tabular.solve(mdp, 1.0, method="value_iteration")
    assert solution.status == tabular.Status.CONVERGED, solution.message


def test_masks_and_minus_infinity_are_one():
    mdp = tabular.garnet(0, 12, 4, 3)
    mask = np.ones((12, 4), bool)
    mask[::2, 1] = False
    rows = np.where(mask[..., None], mdp.transition, np.nan)
    masked = tabular.MDP(rows, np.asarray(mdp.reward), 0.95, mask=mask)
    infinite = tabular.MDP(
        np.asarray(mdp.transition), np.where(mask, mdp.reward, -np.inf), np.asarray(0.95)
    )
    penalty = tabular.MDP(
        np.asarray(mdp.transition), np.where(mask, mdp.reward, -1e6), np.asarray(0.95)
    )
    wanted = tabular.solve(penalty, 0.1)
    for way in (masked, infinite):
        found = tabular.solve(way, 0.1)
        np.testing.assert_allclose(found.v, wanted.v, rtol=1e-12)
        assert (np.isneginf(found.q) == ~mask).all()
        image = jax.jit(tabular.bellman)(way, found.q, 0.1)
        np.testing.assert_allclose(image, found.q, rtol=1e-12)

        def total(temperature, way=way):
            return tabular.solve(way, temperature).v.sum()

        def with_penalty(temperature):
            return tabular.solve(penalty, temperature).v.sum()

        slope = jax.jit(jax.grad(with_penalty))(0.1)
        np.testing.assert_allclose(jax.jit(jax.grad(total))(0.1), slope, rtol=1e-9)

    def by_q(temperature):
        return tabular.solve(masked, temperature, hypergradient=implicit.Dense()).v.sum()

    np.testing.assert_allclose(jax.jit(jax.grad(by_q))(0.1), slope, rtol=1e-8)


def test_a_state_without_actions():
    with pytest.raises(InputError, match="state 1 has no action left"):
        tabular.MDP(np.full((2, 1, 2), 0.5), [[1.0], [-np.inf]], 0.9)
    with pytest.raises(InputError, match="state 0 'home' has no action left"):
        tabular.MDP(
            np.full((2, 1, 2), 0.5),
            np.ones((2, 1)),
            0.9,
            mask=[[False], [True]],
            states=["home", "work"],
        )


def test_undiscounted_walk_to_the_end():
    """From cell k of a line it takes n − k steps to the end, each of cost 1."""
    cells = 6
    p = np.zeros((cells, 2, cells))
    for s in range(cells):
        p[s, 0, min(s + 1, cells - 1)] = 1
        # slower: stays half of the time
        p[s, 1, s] += 0.5
        p[s, 1, min(s + 1, cells - 1)] += 0.5
    r = np.where(np.arange(cells)[:, None] < cells - 1, -1.0, 0.0) * np.ones((1, 2))
    mdp = tabular.MDP(p, r, 1.0)
    solution = tabular.solve(mdp, operator="hard")
    np.testing.assert_allclose(solution.v, np.arange(cells) - (cells - 1.0), atol=1e-12)
    assert solution.status == tabular.Status.CONVERGED
    soft = tabular.solve(mdp, 0.5)
    np.testing.assert_allclose(soft.v[-1], 0, atol=1e-12)
    # one step from the end: v = α log(e^(−1/α) + e^((−1 + v/2)/α))
    v = soft.v[-2]
    image = 0.5 * np.log(np.exp(-1 / 0.5) + np.exp((-1 + v / 2) / 0.5))
    np.testing.assert_allclose(v, image, rtol=1e-10)
    p[0, 1] = np.eye(cells)[0]
    with pytest.raises(InputError, match=r"policy that takes \(state, action\) = \(0, 1\) never"):
        tabular.MDP(p, r, 1.0)


def errand():
    """(P, r): from 0 to 1 at cost 1 or home at cost 3, from 1 home at cost 1 or 1.5; 2 is home."""
    p = np.zeros((3, 2, 3))
    p[0, 0, 1] = p[0, 1, 2] = p[1, :, 2] = p[2, :, 2] = 1
    return p, np.asarray([[-1.0, -3.0], [-1.0, -1.5], [0.0, 0.0]])


def test_an_end_takes_any_action():
    """Nobody masked its actions: policies and observations there were refused before."""
    mdp = tabular.MDP(*errand(), 1.0)
    uniform = np.full((3, 2), 0.5)
    found = tabular.evaluate(mdp, uniform)
    np.testing.assert_allclose(found.v, [(-1 - 1.25 - 3) / 2, -1.25, 0], rtol=1e-14)
    np.testing.assert_allclose(tabular.expected_return(mdp, uniform), found.v.sum() / 3)
    soft = tabular.solve(mdp, 1.0)
    home = np.log(np.exp(-1) + np.exp(-1.5))
    start = np.log(np.exp(-1 + home) + np.exp(-3))
    np.testing.assert_allclose(soft.v, [start, home, 0], rtol=1e-12)
    np.testing.assert_allclose(soft.policy[2], [0.5, 0.5])
    np.testing.assert_allclose(jax.jit(tabular.bellman)(mdp, soft.q, 1.0), soft.q, atol=1e-12)


def test_gradient_in_the_rewards_without_discount():
    """How often each action is taken from state 0; traced rewards were refused before."""
    p, r = errand()

    def start(r):
        return tabular.solve(tabular.MDP(p, r, 1.0), 1.0).v[0]

    policy = tabular.solve(tabular.MDP(p, r, 1.0), 1.0).policy
    taken = jax.grad(start)(r)
    np.testing.assert_allclose(taken[0], policy[0], rtol=1e-9)
    np.testing.assert_allclose(taken[1], policy[0, 0] * policy[1], rtol=1e-9)
    assert np.isnan(jax.jit(start)(r + 1.0))  # paid for ever


def test_discounts_by_state_pair_and_transition():
    base = tabular.garnet(4, 8, 3, 3)
    p, r = np.asarray(base.transition), np.asarray(base.reward)
    rng = np.random.default_rng(0)
    by_state = rng.uniform(0.3, 0.9, 8)
    by_pair = np.broadcast_to(by_state[:, None], (8, 3))
    by_transition = np.broadcast_to(by_state[:, None, None], (8, 3, 8))
    wanted = tabular.solve(tabular.MDP(p, r, by_state), 0.1)
    image = r + by_state[:, None] * (p @ np.asarray(wanted.v))
    np.testing.assert_allclose(wanted.q, image, rtol=1e-12)
    for discount, method in (
        (by_pair, "newton"),
        (by_pair, "value_iteration"),
        (by_transition, "newton"),
        (by_transition, "inexact_policy_iteration"),
    ):
        found = tabular.solve(tabular.MDP(p, r, discount), 0.1, method=method)
        np.testing.assert_allclose(found.v, wanted.v, rtol=1e-10)
        assert found.status == tabular.Status.CONVERGED
    same = tabular.solve(tabular.MDP(p, r, np.full(8, 0.95)), 0.1)
    np.testing.assert_allclose(same.v, tabular.solve(base, 0.1).v, rtol=1e-11)


def test_rewards_of_transitions_are_reduced_exactly():
    base = tabular.garnet(4, 8, 3, 3)
    r = np.random.default_rng(0).normal(size=(8, 3, 8))
    p = np.asarray(base.transition)
    mdp = tabular.MDP(p, r, 0.9)
    np.testing.assert_allclose(mdp.reward, (p * r).sum(-1), rtol=1e-14)


def test_a_product_of_chains_is_the_product_written_out():
    controlled = tabular.garnet(0, 5, 3, 2, sparse=True).transition
    exogenous = tabular.garnet(1, 4, 1, 2).transition
    factored = tabular.Factored(controlled, tabular.Rows(exogenous))
    dense = np.einsum("yaz,xw->yxazw", controlled.todense(), exogenous[:, 0]).reshape(20, 3, 20)
    reward = np.random.default_rng(0).normal(size=(20, 3))
    np.testing.assert_allclose(factored.todense(), dense, rtol=1e-14)
    wanted = tabular.solve(tabular.MDP(dense, reward, 0.95), 0.1)
    for method in ("newton", "modified_policy_iteration", "inexact_policy_iteration"):
        found = tabular.solve(tabular.MDP(factored, reward, 0.95), 0.1, method=method)
        np.testing.assert_allclose(found.q, wanted.q, rtol=1e-11)


@pytest.mark.parametrize("cells", [300, 1100], ids=["factorised at once", "after BiCGStab"])
def test_a_walk_near_one_needs_few_sweeps(cells):
    """It mixes slowly: 10⁵ sweeps at γ = 0.9999, without a linear solve."""
    mdp = tabular.grid_world(1, cells, slip=0.2, discount=0.9999, sparse=True)
    # every step to the right succeeds with 0.8, else one stays or goes on: v by backward induction
    solution = tabular.solve(mdp, operator="hard")
    wanted = np.zeros(cells)
    for s in range(cells - 2, -1, -1):
        # with 0.2 a side step hits the border and keeps the walker in place
        wanted[s] = 0.8 * ((s == cells - 2) + 0.9999 * wanted[s + 1]) / (1 - 0.9999 * 0.2)
    np.testing.assert_allclose(solution.v, wanted, rtol=1e-9)
    assert solution.status == tabular.Status.CONVERGED, solution.message
    assert solution.iterations < 5000

    def total(reward):
        return tabular.solve(eqx.tree_at(lambda m: m.reward, mdp, reward), 0.05).v.sum()

    # discounted visits from each cell
    visits = jax.jit(jax.grad(total))(mdp.reward)
    np.testing.assert_allclose(visits.sum(), cells / (1 - 0.9999), rtol=1e-9)


@pytest.mark.parametrize("method", ["newton", "inexact_policy_iteration"])
def test_rewards_near_the_smallest_numbers_are_not_called_accurate(method):
    """XLA takes numbers below 2e-308 for 0."""
    base = tabular.garnet(1, 7, 3, 3, discount=0.99)
    for scale in (1e-250, 1e-304):
        mdp = tabular.MDP(base.transition, np.asarray(base.reward) * scale, 0.99)
        solution = tabular.solve(mdp, operator="hard", method=method)
        wanted = tabular.solve(base, operator="hard").v
        apart = np.abs(np.asarray(solution.v) / scale - wanted).max() / wanted.max()
        assert apart <= 1e-6 or solution.status == tabular.Status.INACCURATE
        assert scale < 1e-300 or solution.status == tabular.Status.CONVERGED


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"tolerance": -1.0}, "tolerance must be a finite number above 0, but is -1.0"),
        ({"tolerance": np.nan}, "but is nan; leave it out"),
        ({"tolerance": np.ones(2)}, r"tolerance must be one number, but has shape \(2,\)"),
        ({"max_iterations": 0}, "max_iterations must be a whole number of at least 1"),
        ({"max_iterations": 10**12}, "below 2147483648"),
        ({"temperature": "1"}, "temperature must be a real number, but is '1'"),
        ({"temperature": True}, "temperature must be a real number, but is True"),
    ],
)
def test_numbers_asked_of_a_solve(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        tabular.solve(tabular.paper_mdp(), **settings)
