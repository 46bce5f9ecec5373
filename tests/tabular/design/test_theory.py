"""Lemma 1 and theorem 2 on 1000 random MDPs and models, and where they are equalities."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omd import tabular
from omd.errors import InputError

COUNT = 1000
lemma_1 = jax.jit(tabular.lemma_1)
theorem_2_mle = jax.jit(tabular.theorem_2_mle)
theorem_2_omd = jax.jit(tabular.theorem_2_omd)
proposition_1 = jax.jit(tabular.proposition_1)
ROUNDING = 1e-9


@pytest.fixture
def pairs(random_mdps):
    """True MDPs with rewards in [0, 1], models with the same discount and any rewards."""
    true = random_mdps(0, COUNT, low=0.0, discounts=(0.0, 0.99))
    model = random_mdps(1, COUNT, low=-0.5, high=1.5)
    # from models close to the truth to unrelated ones
    mix = jnp.asarray(np.random.default_rng(2).uniform(size=COUNT)) ** 3
    blend = jax.vmap(lambda m, a, b: jax.tree.map(lambda x, y: (1 - m) * x + m * y, a, b))
    model = blend(mix, true, model)
    return true, eqx.tree_at(lambda m: m.discount, model, true.discount)


@pytest.mark.parametrize("temperature", [None, 0.1])
def test_theorem_2_and_lemma_1_on_random_mdps(pairs, temperature):
    @jax.jit
    @jax.vmap
    def bounds(mdp, model, q):
        top = mdp.reward.max() / (1 - mdp.discount)
        return (
            tabular.theorem_2_mle(mdp, model, temperature=temperature),
            tabular.theorem_2_omd(mdp, model, temperature=temperature),
            tabular.lemma_1(mdp, model, q * top, temperature=temperature),
            tabular.lemma_1(mdp, model, tabular.solve(model, operator="hard").q),
        )

    q = jnp.asarray(np.random.default_rng(3).uniform(size=(COUNT, 4, 3)))
    mle, omd, lemma, at_q_hat = bounds(*pairs, q)
    for bound in (mle, omd, lemma):
        assert (bound.left <= bound.right * (1 + ROUNDING) + ROUNDING).all()
        assert bound.holds_if.all()
    # the paper's point: where lemma 1 holds at Q̂, the OMD bound is the tighter one
    if temperature is None:
        usable = at_q_hat.holds_if
        assert usable.sum() > 100
        assert (omd.right <= mle.right * (1 + ROUNDING) + ROUNDING)[usable].all()
        assert (omd.gap < 0.9 * mle.gap)[usable].any()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_bounds_on_mdps_that_hypothesis_makes_up(data):
    """Corners (zero rows, equal rewards, γ = 0) that continuous random numbers never hit."""
    small = st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0])

    def mdp(discount):
        weights = np.asarray(data.draw(st.lists(small, min_size=8, max_size=8))).reshape(2, 2, 2)
        weights[..., 0] += weights.sum(-1) == 0
        rewards = np.asarray(data.draw(st.lists(small, min_size=4, max_size=4))).reshape(2, 2)
        return tabular.MDP(weights / weights.sum(-1, keepdims=True), rewards, discount)

    with jax.enable_x64(True):
        discount = data.draw(st.sampled_from([0.0, 0.5, 0.9]))
        true, model = mdp(discount), mdp(discount)
        for bound in _all_bounds(true, model):
            assert bound.left <= bound.right + ROUNDING or not bound.holds_if


@jax.jit
def _all_bounds(true, model):
    q_hat = tabular.solve(model, operator="hard").q
    return (
        tabular.theorem_2_mle(true, model, q_hat=q_hat),
        tabular.theorem_2_omd(true, model, q_hat=q_hat),
        tabular.lemma_1(true, model, q_hat),
    )


def two_absorbing_states(epsilon_p, epsilon_r, top=2.0, discount=0.9):
    """Heaven (reward `top`) and limbo (reward 0); the model leaks from limbo to heaven."""
    true = tabular.MDP(np.eye(2)[:, None], [[top], [0.0]], discount)
    leak = epsilon_p / 2
    model = tabular.MDP(
        [[[1.0, 0.0]], [[leak, 1 - leak]]], [[top + epsilon_r], [epsilon_r]], discount
    )
    return true, model


@pytest.mark.parametrize(("epsilon_p", "epsilon_r"), [(0.5, 0.1), (2.0, 0.0), (0.1, 1.0)])
def test_lemma_1_is_an_equality_where_error_and_values_align(epsilon_p, epsilon_r):
    true, model = two_absorbing_states(epsilon_p, epsilon_r)
    bound = lemma_1(true, model, tabular.solve(true, operator="hard").q)
    assert bound.holds_if
    error = tabular.model_error(true, model)
    assert float(error.transition) == pytest.approx(epsilon_p)
    assert float(error.reward) == pytest.approx(epsilon_r)
    assert float(bound.right) == pytest.approx(epsilon_r + 0.9 * epsilon_p * 2.0 / (2 * 0.1))
    assert float(bound.left) == pytest.approx(float(bound.right), rel=1e-9)


def test_the_mle_bound_comes_within_one_percent():
    true, model = two_absorbing_states(1e-3, 1e-3)
    bound = theorem_2_mle(true, model)
    assert bound.holds_if
    assert float(bound.right) == pytest.approx(1e-3 / 0.1 + 0.9 * 1e-3 * 2.0 / (2 * 0.1**2))
    assert 0.99 * bound.right <= bound.left <= bound.right


def test_the_omd_bound_is_an_equality_for_shifted_rewards():
    true = tabular.garnet(0, 12, 3, 4, discount=0.9)
    model = eqx.tree_at(lambda m: m.reward, true, true.reward + 0.3)
    bound = theorem_2_omd(true, model)
    assert float(bound.left) == pytest.approx(0.3 / (1 - 0.9), rel=1e-8)
    assert float(bound.right) == pytest.approx(float(bound.left), rel=1e-8)


def test_the_lemma_needs_values_in_range():
    """Outside of it the inequality of (15) can fail, and `holds_if` says so."""
    true, model = two_absorbing_states(0.5, 0.0)
    bound = lemma_1(true, model, jnp.asarray([[100.0], [-100.0]]))
    assert not bound.holds_if
    assert bound.left > bound.right
    assert not lemma_1(true, model, jnp.zeros((2, 1)), reward_range=(0.0, 1.0)).holds_if
    other = eqx.tree_at(lambda m: m.discount, model, jnp.asarray(0.5))
    assert not theorem_2_mle(true, other).holds_if


def test_negative_rewards_count_by_their_width():
    true, model = two_absorbing_states(0.5, 0.1)
    lower = eqx.tree_at(lambda m: m.reward, true, true.reward - 2.0)
    model = eqx.tree_at(lambda m: m.reward, model, model.reward - 2.0)
    bound = lemma_1(lower, model, tabular.solve(lower, operator="hard").q)
    assert bound.holds_if
    assert float(bound.left) == pytest.approx(float(bound.right), rel=1e-9)


@pytest.mark.parametrize("temperature", [None, 0.01])
def test_the_true_model_is_in_the_equivalence_class(temperature):
    mdp = tabular.paper_mdp()
    result = proposition_1(mdp, mdp, temperature=temperature)
    assert float(result.error) == 0
    np.testing.assert_allclose(result.right, result.left)


def test_another_member_of_the_class_has_the_same_fixed_point():
    """Proposition 1, figure 3: deterministic dynamics whose rewards make up for it."""
    mdp = tabular.paper_mdp()
    q_star = tabular.solve(mdp, operator="hard").q
    transition = np.zeros((2, 2, 2))
    transition[:, 0, 0] = transition[:, 1, 1] = 1
    model = tabular.MDP(transition, q_star - 0.9 * (transition @ q_star.max(-1)), 0.9)
    assert float(tabular.model_error(mdp, model).transition) == pytest.approx(1.98)
    assert float(proposition_1(mdp, model).error) <= 1e-12
    np.testing.assert_allclose(tabular.solve(model, operator="hard").q, q_star, rtol=1e-9)
    bound = theorem_2_omd(mdp, model)
    assert max(float(bound.left), float(bound.right)) <= 1e-9
    # so it is a solution of (2) and of (6)
    assert float(tabular.bellman_error(mdp, tabular.solve(model, operator="hard").q, None)) <= 1e-18
    wrong = eqx.tree_at(lambda m: m.reward, model, model.reward.at[0, 1].add(0.1))
    assert float(proposition_1(mdp, wrong).error) == pytest.approx(0.1)


def test_model_error_of_sparse_transitions_is_the_dense_one():
    dense = [tabular.garnet(s, 12, 3, 4) for s in (0, 1)]
    lists = [tabular.garnet(s, 12, 3, 4, sparse=True) for s in (0, 1)]
    wanted = tabular.model_error(*dense)
    for pair in (lists, (dense[0], lists[1])):
        np.testing.assert_allclose(tabular.model_error(*pair), wanted)
    halved = eqx.tree_at(
        lambda m: m.transition.probability, lists[0], lists[0].transition.probability / 2
    )
    assert float(tabular.model_error(lists[0], halved).transition) == pytest.approx(0.5)


def test_models_of_another_mdp_are_refused():
    with pytest.raises(InputError, match=r"the model has \(12, 3\) .* the true MDP \(2, 2\)"):
        theorem_2_omd(tabular.paper_mdp(), tabular.garnet(0, 12, 3, 4))
