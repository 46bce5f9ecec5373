import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import implicit, tabular
from omd.errors import InputError
from omd.tabular.design.formulation import (
    BELLMAN_ERROR,
    LIKELIHOOD,
    RETURN,
    Design,
    bellman_constraint,
    gradient_constraint,
)
from omd.tabular.design.projection import Model


def thetas(seed, *shape):
    """Random models; `shape` is [..., S, A]."""
    rng = np.random.default_rng(seed)
    return Model(
        jnp.asarray(rng.normal(size=(*shape, shape[-2]))), jnp.asarray(rng.normal(size=shape))
    )


@eqx.filter_jit
def loss(design, theta):
    return design.loss(theta, jnp.zeros_like(theta.reward))[0]


def slope_by_differences(design, theta, direction, h):
    """Directional derivative by central differences of sixth order."""

    def at(t):
        return loss(design, jax.tree.map(lambda x, d: x + t * d, theta, direction))

    points = jnp.asarray([-3.0, -2, -1, 1, 2, 3])
    weights = jnp.asarray([-1.0, 9, -45, 45, -9, 1]) / 60
    return weights @ jax.vmap(at)(h * points) / h


@jax.jit
def both_slopes(design, theta, direction, h):
    gradient = jax.grad(lambda t: loss(design, t))(theta)
    exact = sum(jnp.vdot(g, d) for g, d in zip(gradient, direction, strict=True))
    return exact, slope_by_differences(design, theta, direction, h)


@pytest.mark.parametrize(
    ("objective", "constraint"),
    [
        (RETURN, bellman_constraint),
        (RETURN, gradient_constraint),
        (BELLMAN_ERROR, bellman_constraint),
        (BELLMAN_ERROR, gradient_constraint),
        (LIKELIHOOD, bellman_constraint),
    ],
    ids=lambda value: getattr(value, "name", getattr(value, "__name__", "")),
)
def test_gradients_against_finite_differences(random_mdps, objective, constraint):
    """100 random MDPs, a random model and direction each: 1e-7 relative."""

    def one(mdp, theta, direction):
        design = Design(mdp, objective, constraint, implicit.Dense(), temperature=0.5)
        return both_slopes(design, theta, direction, 2e-3)

    mdps = random_mdps(seed=3, count=100)
    exact, differences = jax.vmap(one)(mdps, thetas(0, 100, 4, 3), thetas(1, 100, 4, 3))
    scale = np.maximum(np.abs(differences), 1e-3 * np.abs(differences).max())
    assert np.max(np.abs(exact - differences) / scale) <= 1e-7


@pytest.mark.parametrize("objective", [RETURN, BELLMAN_ERROR], ids=lambda o: o.name)
def test_gradient_at_the_papers_temperature(objective):
    """Where the policy has not saturated: at temperature 0.01 that takes small rewards."""
    design = Design(tabular.paper_mdp(), objective)
    theta = jax.tree.map(lambda x: 0.01 * x, thetas(5, 2, 2))
    for seed in range(5):
        exact, differences = both_slopes(design, theta, thetas(seed, 2, 2), 1e-5)
        assert float(exact) == pytest.approx(float(differences), rel=1e-7)


@eqx.filter_jit
def solution(design, theta):
    return design.solution(theta, jnp.zeros_like(theta.reward))


@eqx.filter_jit
def gradient(design, theta):
    return jax.grad(lambda t: loss(design, t))(theta)


def test_both_constraints_have_one_exact_hypergradient():
    """Appendix E: H⁻¹Mᵀ = M⁻¹ for the Hessian H = 2MᵀM of the gradient constraint."""
    theta = thetas(2, 2, 2)
    designs = [
        Design(tabular.paper_mdp(), BELLMAN_ERROR, constraint)
        for constraint in (bellman_constraint, gradient_constraint)
    ]
    for a, b in zip(*(gradient(design, theta) for design in designs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_identity_leaves_the_jacobian_out():
    """u = g: the gradient is that of B^θ Q with Q held fixed, times ∂L/∂Q."""
    design = Design(tabular.paper_mdp(), BELLMAN_ERROR, hypergradient=implicit.Identity())
    theta = thetas(2, 2, 2)
    q = solution(design, theta)
    g = jax.grad(lambda x: tabular.bellman_error(design.mdp, x, 0.01))(q)
    _, pull = jax.vjp(lambda t: design.operator(q, t), theta)
    for a, b in zip(gradient(design, theta), pull(g)[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


@pytest.mark.parametrize("mdp", [tabular.paper_mdp, lambda: tabular.garnet(0, 5, 3, 2)])
def test_the_default_hypergradient_is_exact(mdp):
    mdp = mdp()
    theta = thetas(2, *mdp.reward.shape)
    designs = [
        Design(mdp, BELLMAN_ERROR, hypergradient=method) for method in (None, implicit.Dense())
    ]
    for a, b in zip(*(gradient(design, theta) for design in designs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("logit_temperature", [0.01, 1.0])
def test_the_true_model_is_the_best_of_all(logit_temperature):
    mdp = tabular.paper_mdp()
    truth = Model(logit_temperature * jnp.log(mdp.transition), mdp.reward)
    for objective, value in ((RETURN, -1.02727), (BELLMAN_ERROR, 0), (LIKELIHOOD, 0)):
        design = Design(mdp, objective, logit_temperature=logit_temperature)
        assert float(loss(design, truth)) == pytest.approx(value, abs=2e-5)
    for objective in (BELLMAN_ERROR, LIKELIHOOD):
        design = Design(mdp, objective, logit_temperature=logit_temperature)
        for leaf in gradient(design, truth):
            np.testing.assert_allclose(leaf, 0, atol=1e-12)


def test_likelihood_by_hand():
    """A uniform model without reward, row by row: KL is log 2 less the row's entropy."""
    mdp = tabular.paper_mdp()
    rows = ((0.7, 0.3), (0.99, 0.01), (0.2, 0.8), (0.99, 0.01))
    divergence = np.mean([np.log(2) + sum(p * np.log(p) for p in row) for row in rows])
    reward = np.mean(np.square([-0.45, -0.1, 0.5, 0.5]))
    blank = Model(jnp.zeros((2, 2, 2)), jnp.zeros((2, 2)))
    assert float(loss(Design(mdp, LIKELIHOOD), blank)) == pytest.approx(divergence + reward)


def test_likelihood_where_transitions_are_impossible():
    """0 log 0 counts as 0, in value and gradient."""
    mdp = tabular.MDP([[[1.0, 0.0]], [[0.5, 0.5]]], [[0.0], [1.0]], 0.9)
    design, theta = Design(mdp, LIKELIHOOD), thetas(0, 2, 1)
    assert np.isfinite(loss(design, theta))
    assert all(np.isfinite(leaf).all() for leaf in gradient(design, theta))


def test_noise_comes_after_the_inner_solve():
    design = Design(tabular.paper_mdp(), BELLMAN_ERROR)
    theta, noise = thetas(1, 2, 2), jnp.asarray([[0.1, 0.0], [0.0, -0.2]])
    value, q = eqx.filter_jit(Design.loss)(design, theta, jnp.zeros((2, 2)), noise)
    np.testing.assert_allclose(q, solution(design, theta), atol=1e-12)
    assert float(value) == pytest.approx(
        float(tabular.bellman_error(design.mdp, q + noise, 0.01)), rel=1e-12
    )


def test_shifting_a_row_of_logits_changes_nothing():
    design = Design(tabular.paper_mdp(), BELLMAN_ERROR)
    theta = thetas(1, 2, 2)
    shifted = theta._replace(logits=theta.logits + jnp.asarray([[[3.0], [-1.0]], [[0.5], [7.0]]]))
    assert float(loss(design, shifted)) == pytest.approx(float(loss(design, theta)), rel=1e-12)


def test_bad_input():
    sparse = tabular.garnet(0, 5, 2, 2, sparse=True)
    with pytest.raises(InputError, match="dense MDP"):
        Design(sparse, RETURN)
    tables = np.full((2, 2, 2), 0.5), np.zeros((2, 2))
    for discount, mask, sentence in (
        (0.9, [[True, True], [False, True]], "this MDP has a mask"),
        (np.asarray([0.5, 0.9]), None, r"discounts of shape \(2,\)"),
    ):
        other = tabular.MDP(*tables, discount, mask=mask)
        with pytest.raises(InputError, match=sentence):
            Design(other, RETURN)
        with pytest.raises(InputError, match=sentence):
            tabular.theorem_2_mle(other, other)
    Design(tabular.MDP(*tables, 0.9, mask=np.ones((2, 2))), RETURN)
    for name in ("temperature", "logit_temperature"):
        with pytest.raises(InputError, match=f"{name} must be above 0, but is 0"):
            Design(tabular.paper_mdp(), RETURN, **{name: 0.0})


def test_a_design_is_a_pytree():
    design = Design(tabular.paper_mdp(), RETURN)
    doubled = eqx.tree_at(lambda d: d.mdp.reward, design, replace_fn=lambda r: 2 * r)
    theta = Model(jnp.log(design.mdp.transition), design.mdp.reward)
    ratio = loss(doubled, theta) / loss(design, theta)
    assert float(ratio) == pytest.approx(2)
