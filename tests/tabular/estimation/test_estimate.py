import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix
import pytest

from omd import tabular
from omd.errors import InputError
from omd.tabular import estimation

TRUTH = np.asarray([1.0, -0.5])


@pytest.fixture(scope="module")
def model():
    with jax.enable_x64(True):
        mdp = tabular.garnet(0, 5, 3, 3, discount=0.9)
        features = np.random.default_rng(0).normal(size=(5, 3, 2))
        return tabular.linear_rewards(mdp, features)


def sample(model, agents=50, periods=40, seed=0, theta=TRUTH):
    mdp = model(theta)
    policy = tabular.solve(mdp, 1.0).policy
    return estimation.simulate(mdp, policy, agents, periods, seed=seed)


def test_scores_are_differences_of_log_likelihoods(model):
    panel, step = sample(model, 3, 5), 1e-6
    scores = estimation.scores(model, TRUTH, panel)
    for k in range(2):
        ahead, behind = (
            estimation.log_likelihood(model, TRUTH + sign * step * np.eye(2)[k], panel)
            for sign in (1, -1)
        )
        np.testing.assert_allclose(scores[..., k], (ahead - behind) / (2 * step), atol=1e-7)


def test_choice_probabilities_near_one_in_float32():
    """Differences of action values are lost where q is rounded to float32."""
    group = estimation.TABLE_IX["group 4"]
    truth, panel = np.asarray([10.075, 2.293]), estimation.Panel(*(np.full((1, 1), 40),) * 3)
    panel = panel._replace(action=np.asarray([[1]]))

    def found():
        model = estimation.bus_engine(np.float32(group.moves))
        return estimation.log_likelihood(model, np.float32(truth), panel)[0, 0]

    wanted = found()
    with jax.enable_x64(False):
        np.testing.assert_allclose(found(), wanted, rtol=1e-5)


def test_estimates_without_discount():
    """One choice, at state 0: log odds are the difference that θ makes."""
    p = np.zeros((2, 2, 2))
    p[..., 1] = 1
    model = tabular.linear_rewards(
        tabular.MDP(p, np.zeros((2, 2)), 1.0), [[[1.0], [0.0]], [[0.0], [0.0]]]
    )
    states = np.tile([0, 1], (4, 1))
    panel = estimation.Panel(states, np.asarray([[0, 0], [0, 1], [0, 1], [1, 0]]), states * 0 + 1)
    found = estimation.estimate(model, panel, [0.0])
    np.testing.assert_allclose(found.theta, np.log(3), rtol=1e-6)
    # the actions after the end are not the model's to explain: each has probability 1/2
    wanted = 3 * np.log(3 / 4) + np.log(1 / 4) + 4 * np.log(1 / 2)
    np.testing.assert_allclose(found.log_likelihood, wanted, rtol=1e-9)


def test_transitions_add_their_own_likelihood(model):
    panel = sample(model, 3, 5)
    both = estimation.log_likelihood(model, TRUTH, panel, transitions=True)
    choices = estimation.log_likelihood(model, TRUTH, panel)
    moves = np.asarray(model(TRUTH).transition)[panel.state, panel.action, panel.next_state]
    np.testing.assert_allclose(both - choices, np.log(moves), rtol=1e-9)


def test_probabilities_of_single_transitions_are_those_of_the_dense_table():
    controlled = tabular.garnet(0, 5, 3, 2, sparse=True).transition
    exogenous = tabular.garnet(1, 4, 1, 2).transition
    product = tabular.Factored(controlled, tabular.Rows(exogenous))
    for kernel in (tabular.Rows(controlled.todense()), controlled, product):
        states, actions, _ = kernel.shape
        where = np.unravel_index(np.arange(states * actions * states), kernel.shape)
        found = kernel.probability_of(*map(jnp.asarray, where))
        np.testing.assert_allclose(found, np.ravel(kernel.todense()), rtol=1e-15)


@pytest.fixture(scope="module")
def found(model):
    """(panel, its estimate) by default settings."""
    with jax.enable_x64(True):
        panel = sample(model)
        return panel, estimation.estimate(model, panel, [0.0, 0.0])


def test_the_estimate_is_the_maximum(model, found):
    panel, found = found
    assert found.converged, found.message
    assert (np.abs(found.theta - TRUTH) <= 3 * found.standard_errors()).all()
    # at the maximum mean scores vanish and no neighbour is likelier
    scores = np.asarray(estimation.scores(model, found.theta, panel)).reshape(-1, 2)
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-9)
    for e in np.concatenate([np.eye(2), -np.eye(2)]):
        near = estimation.log_likelihood(model, found.theta + 0.01 * e, panel).sum()
        assert near < found.log_likelihood
    np.testing.assert_allclose(found.outer, scores.T @ scores, rtol=1e-8)
    kinds = [found.standard_errors(kind) for kind in ("hessian", "bhhh", "sandwich")]
    # one model, correctly specified: all three estimate the same
    np.testing.assert_allclose(kinds[1], kinds[0], rtol=0.1)
    np.testing.assert_allclose(kinds[2], kinds[0], rtol=0.2)


@pytest.mark.parametrize(
    ("route", "optimizer"),
    [
        ("nfxp", estimation.Optax()),
        ("nfxp", estimation.Optimistix(optimistix.BFGS(1e-10, 1e-10))),
        ("mpec", estimation.SciPy()),
        ("mpec", estimation.Optax(optax.adam(0.01), tolerance=1e-9)),
        ("mpec", estimation.Optimistix(optimistix.Dogleg(1e-10, 1e-10))),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_all_routes_find_the_same_maximum(model, found, route, optimizer):
    panel, wanted = found
    again = estimation.estimate(model, panel, [0.0, 0.0], route=route, optimizer=optimizer)
    assert again.converged, again.message
    np.testing.assert_allclose(again.theta, wanted.theta, atol=1e-6)
    np.testing.assert_allclose(again.log_likelihood, wanted.log_likelihood, rtol=1e-10)
    np.testing.assert_allclose(again.standard_errors(), wanted.standard_errors(), rtol=1e-5)


def test_an_optimiser_that_runs_out_has_not_converged(model, found):
    short = estimation.estimate(model, found[0], [0.0, 0.0], max_iterations=1)
    assert not short.converged


def test_counterfactual_intervals(model, found):
    """θ itself has its standard errors, and a linear function those that algebra gives."""
    _, found = found
    own = estimation.delta_interval(lambda theta: theta, found)
    np.testing.assert_allclose(own.standard_error, found.standard_errors(), rtol=1e-9)
    np.testing.assert_allclose(own.high - own.value, 1.959964 * own.standard_error, rtol=1e-6)
    sum_ = estimation.delta_interval(lambda theta: theta.sum(), found, kind="hessian")
    np.testing.assert_allclose(sum_.standard_error**2, found.covariance("hessian").sum(), rtol=1e-9)

    def value(theta):
        return tabular.solve(model(theta), 1.0).v[0]

    interval = estimation.delta_interval(value, found)
    assert interval.low < value(jnp.asarray(TRUTH)) < interval.high
    with pytest.raises(InputError, match="level must lie between 0 and 1, but is 95"):
        estimation.delta_interval(value, found, level=95)


def test_two_types_are_told_apart(model):
    other = np.asarray([-1.0, 1.5])
    first, second = sample(model, 60, 60, seed=1), sample(model, 30, 60, seed=2, theta=other)
    panel = estimation.Panel(*(np.concatenate(x) for x in zip(first, second, strict=True)))
    found = estimation.estimate_mixture(model, panel, [[0.5, 0.0], [-0.5, 0.0]])
    assert found.converged
    np.testing.assert_allclose(found.shares, [2 / 3, 1 / 3], atol=0.02)
    for got, wanted in zip(found.types, (TRUTH, other), strict=True):
        assert (np.abs(got.theta - wanted) <= 3 * got.standard_errors()).all()
    assert (found.posterior.argmax(axis=1) == np.repeat([0, 1], [60, 30])).mean() > 0.97
    with pytest.raises(InputError, match="equal types stay equal"):
        estimation.estimate_mixture(model, panel, [[0.5, 0.0], [0.5, 0.0]])


def test_learned_rewards_match_the_features_of_the_demonstrations():
    """What defines maximum causal entropy: features are as often visited as expected."""
    mdp = tabular.grid_world(4, 4, slip=0.1, discount=0.9)
    features = np.zeros((16, 4, 2))
    features[5, :, 0] = features[10, :, 1] = 1
    model = tabular.linear_rewards(mdp, features)
    truth = np.asarray([2.0, -3.0])
    policy = tabular.solve(model(truth), 1.0).policy
    panel = estimation.simulate(mdp, policy, 200, 30, seed=0)
    found = estimation.learn_reward(mdp, features, panel)
    assert found.converged
    assert (np.abs(found.theta - truth) <= 3 * found.standard_errors()).all()
    np.testing.assert_allclose(found.gradient / panel.state.size, 0, atol=1e-7)


def test_simulated_shares_are_those_of_the_policy():
    mdp = tabular.garnet(0, 4, 3, 2)
    policy = np.asarray(tabular.softmax_policy(mdp.reward, 0.5))
    panel = estimation.simulate(mdp, policy, 4000, 10, seed=0)
    counts = panel.counts(mdp).sum(axis=0)
    np.testing.assert_allclose(counts / counts.sum(-1, keepdims=True), policy, atol=0.03)
    for s, a, t in zip(*(np.ravel(x)[:200] for x in panel), strict=True):
        assert mdp.transition[s, a, t] > 0


def test_bad_observations():
    chain = np.full((2, 2, 2), 0.5)
    mdp = tabular.MDP(chain, np.zeros((2, 2)), 0.9, mask=[[True, True], [True, False]])
    model = tabular.linear_rewards(mdp, np.ones((2, 2, 1)))

    def panel(s, a):
        return estimation.Panel(*(np.asarray([[x]]) for x in (s, a, 0)))

    with pytest.raises(InputError, match=r"takes action 1 at state 1 in period 0, but"):
        estimation.estimate(model, panel(1, 1), [0.0])
    with pytest.raises(InputError, match="state of agent 0 in period 0 is 5"):
        estimation.estimate(model, panel(5, 0), [0.0])
    with pytest.raises(InputError, match=r"theta0 must be a vector, but has shape \(\)"):
        estimation.estimate(model, panel(0, 0), 0.0)
    with pytest.raises(InputError, match=r"route must be nfxp or mpec"):
        estimation.estimate(model, panel(0, 0), [0.0], route="em")
    for theta0, settings, sentence in (
        ([np.nan], {}, "theta0 must be finite"),
        ([0.0], {"temperature": -1.0}, "finite temperature above 0, but it is -1"),
        ([0.0], {"penalty": -1.0}, "penalty must be a finite number, 0 or above"),
        ([0.0], {"max_iterations": 0}, "max_iterations must be a whole number of at least 1"),
        ([0.0], {"weights": np.ones(3)}, r"weights have shape \(3,\)"),
        ([0.0], {"weights": [-1.0]}, "for each of the 1 agents"),
    ):
        with pytest.raises(InputError, match=sentence):
            estimation.estimate(model, panel(0, 0), theta0, **settings)
    for wrong, sentence in (
        ([[0.5]], "state must be whole numbers"),
        ([], r"state has shape \(0,\)"),
    ):
        with pytest.raises(InputError, match=sentence):
            estimation.Panel(*(np.asarray(wrong),) * 3).check(mdp)
    with pytest.raises(InputError, match=r"must be a .*Panel"):
        estimation.log_likelihood(model, np.zeros(1), [[0]])
    with pytest.raises(InputError, match="finite temperature above 0, but it is -1"):
        estimation.scores(model, [0.0], panel(0, 0), -1.0)
    steep = tabular.Parametrised(lambda theta: (chain, jnp.sqrt(theta) * np.eye(2)), 0.9)
    with pytest.raises(InputError, match="no finite value, gradient and curvature at the start"):
        estimation.estimate(steep, panel(0, 0), [0.0])
    with pytest.raises(InputError, match="the model must be a function of theta that returns"):
        estimation.estimate(lambda theta: theta, panel(0, 0), [0.0])
    with pytest.raises(InputError, match="takes action 1 at state 1"):
        estimation.simulate(mdp, np.full((2, 2), 0.5), 2, 2, seed=0)
    flat = estimation.Estimate(*(np.zeros(s) for s in (1, (), 1, (1, 1), (1, 1))), 0, True, "")
    with pytest.raises(InputError, match="some combination of the parameters undetermined"):
        flat.standard_errors()
    with pytest.raises(InputError, match="agents must be a whole number of at least 1"):
        estimation.simulate(mdp, mdp.mask, 0, 3, seed=0)
