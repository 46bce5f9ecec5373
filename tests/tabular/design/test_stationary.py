import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from omd import tabular
from omd.errors import InputError
from omd.implicit import Status
from omd.tabular.design.formulation import BELLMAN_ERROR, LIKELIHOOD, RETURN, Design
from omd.tabular.design.parallel import Lanes
from omd.tabular.design.projection import Model, ball
from omd.tabular.design.stationary import find_stationary, spread_starts

BOUNDS = np.asarray([0.0, 0.316, 2.0, 4.7, 5.0])
STARTS = 3
TRUTH_NORM = 4.811


def lanes(bounds=BOUNDS, seed=1):
    seeds = np.full(len(bounds), seed)
    theta, q = spread_starts(seeds, bounds, STARTS, 2, 2)
    return Lanes(theta, jnp.asarray(q), jnp.asarray(bounds), jnp.asarray(seeds))


@functools.cache
def found(name):
    objective = {o.name: o for o in (LIKELIHOOD, BELLMAN_ERROR, RETURN)}[name]
    design = Design(tabular.paper_mdp(), objective)
    step = 0.02 if objective is RETURN else np.inf
    return design, find_stationary(design, lanes(), max_step_length=step)


def norms(theta):
    return np.sqrt(sum((np.asarray(x) ** 2).reshape(len(x), -1).sum(axis=1) for x in theta))


@pytest.mark.parametrize("name", ["likelihood", "bellman_error", "return"])
def test_certificate(name):
    """The residual, computed afresh: how far a unit gradient step is projected from θ."""
    design, end = found(name)
    assert (norms(end.theta) <= BOUNDS + 1e-12).all()

    @jax.vmap
    def residual(theta, bound):
        slope = jax.grad(lambda t: design.loss(t, jnp.zeros((2, 2)))[0])(theta)
        stepped = ball(jax.tree.map(lambda x, g: x - g, theta, slope), bound)
        return jnp.sqrt(sum(jnp.sum((x - y) ** 2) for x, y in zip(stepped, theta, strict=True)))

    fresh = jax.jit(residual)(end.theta, jnp.asarray(BOUNDS))
    np.testing.assert_allclose(fresh, end.residual, atol=1e-10)
    assert (fresh <= 1e-8 + 1e-10).all()
    assert (end.status == Status.CONVERGED).all()
    q = jax.vmap(design.operator)(end.q, end.theta)
    np.testing.assert_allclose(q, end.q, atol=1e-11)


def test_the_likeliest_model_is_unique():
    """KL and squares are convex in θ: all starts end at one loss."""
    _, end = found("likelihood")
    assert (end.starts_converged == STARTS).all()
    assert (end.starts_agreeing == STARTS).all()


def test_against_scipy():
    """SLSQP with the norm as an inequality: one loss for the convex problem, none lower for OMD."""
    for name in ("likelihood", "bellman_error"):
        design, end = found(name)
        lane = 2 if name == "likelihood" else 1
        bound = BOUNDS[lane]
        value = jax.jit(jax.value_and_grad(functools.partial(flat_loss, design)))
        result = minimize(
            lambda x, value=value: tuple(np.asarray(y) for y in value(x)),
            np.random.default_rng(0).normal(size=12) * 0.05,
            jac=True,
            method="SLSQP",
            constraints={
                "type": "ineq",
                "fun": lambda x, b=bound: b**2 - x @ x,
                "jac": lambda x: -2 * x,
            },
            options={"ftol": 1e-15, "maxiter": 500},
        )
        assert float(end.loss[lane]) == pytest.approx(result.fun, rel=1e-7)


def flat_loss(design, x):
    theta = Model(x[:8].reshape(2, 2, 2), x[8:].reshape(2, 2))
    return design.loss(theta, jnp.zeros((2, 2)))[0]


def test_the_truth_fits_from_its_norm_on():
    """Centred, the true logits and reward have norm 4.811: from there on MLE has no Q error."""
    mdp = tabular.paper_mdp()
    logits = jnp.log(mdp.transition)
    centred = logits - logits.mean(axis=-1, keepdims=True)
    norm = float(jnp.sqrt(jnp.sum(centred**2) + jnp.sum(mdp.reward**2)))
    assert norm == pytest.approx(TRUTH_NORM, abs=1e-3)
    _, end = found("likelihood")
    error = jnp.abs(end.q - tabular.solve(mdp).q).max(axis=(1, 2))
    assert float(error[BOUNDS > TRUTH_NORM].max()) < 1e-6
    assert float(error[BOUNDS < TRUTH_NORM].min()) > 1e-3
    assert (end.loss[BOUNDS > TRUTH_NORM] < 1e-14).all()


def test_on_the_boundary_logits_are_centred():
    """A shift of a row costs norm and gains nothing."""
    for name in ("likelihood", "bellman_error"):
        _, end = found(name)
        np.testing.assert_allclose(end.theta.logits[1].mean(axis=-1), 0, atol=1e-7)


def test_the_smallest_bound_is_enough_for_control():
    """Figure 2 on the ball: at κ = 0.316 the best policy is already there."""
    _, end = found("return")
    np.testing.assert_allclose(end.expected_return[1:], 1.02727, atol=2e-5)
    assert float(end.expected_return[0]) == pytest.approx(-0.855, abs=1e-3)
    np.testing.assert_allclose(end.expected_return, -end.loss, rtol=1e-12)


def test_the_best_start_wins():
    """Starts whose policy is saturated and wrong are stationary, too: they must not be chosen."""
    mdp = tabular.paper_mdp()
    design = Design(mdp, RETURN)
    wrong = Model(jnp.zeros((2, 2, 2)), jnp.asarray([[2.0, -2.0], [-2.0, 2.0]]))
    three = lanes(np.asarray([4.0]))
    theta = jax.tree.map(lambda x, w: x.at[0, 0].set(w), three.theta, wrong)
    step = 0.02
    end = find_stationary(design, three._replace(theta=theta), max_step_length=step)
    assert int(end.starts_converged[0]) == STARTS
    assert int(end.starts_agreeing[0]) < STARTS
    assert float(end.expected_return[0]) == pytest.approx(1.02727, abs=2e-5)


def test_lanes_are_independent():
    design, end = found("likelihood")
    alone = find_stationary(design, jax.tree.map(lambda x: x[2:3], lanes()))
    for x, y in zip(jax.tree.leaves(alone), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(x[0], y[2], rtol=1e-6, atol=1e-8)


def test_too_few_steps_are_told():
    design = Design(tabular.paper_mdp(), LIKELIHOOD)
    end = find_stationary(design, lanes(), max_steps=4)
    assert end.status[0] == Status.CONVERGED  # κ = 0: nothing to do
    assert (end.status[1:] == Status.MAX_STEPS).all()
    assert (end.starts_converged[1:] == 0).all()
    assert (end.residual[1:] > 1e-8).all()


def test_spread_starts():
    bounds = np.asarray([0.0, 0.005, 6.0])
    theta, q = spread_starts(np.asarray([7, 7, 8]), bounds, 4, 3, 2)
    assert theta.logits.shape == (3, 4, 3, 2, 3)
    assert theta.reward.shape == q.shape == (3, 4, 3, 2)
    size = np.sqrt(
        (np.asarray(theta.logits) ** 2).sum((2, 3, 4)) + (np.asarray(theta.reward) ** 2).sum((2, 3))
    )
    np.testing.assert_allclose(size[0], 0)
    np.testing.assert_allclose(size[1], 0.005)
    np.testing.assert_allclose(size[2], np.geomspace(0.01, 6, 4))


def test_bad_input():
    design = Design(tabular.paper_mdp(), RETURN)
    with pytest.raises(InputError, match=r"norm_bounds? must be 0 or more"):
        find_stationary(design, lanes(np.asarray([-1.0]))._replace(norm_bound=jnp.asarray([-1.0])))
    for seeds, bounds, starts, sentence in (
        ([-1], [1.0], 2, "a seed must be a whole number of at least 0"),
        ([1], [1.0], 0, "starts must be a whole number of at least 1"),
        ([1, 2], [1.0], 2, "give one of each for every lane"),
    ):
        with pytest.raises(InputError, match=sentence):
            spread_starts(np.asarray(seeds), np.asarray(bounds), starts, 2, 2)
    with pytest.raises(InputError, match="stationary point needs exact solutions"):
        find_stationary(design, lanes()._replace(noise=jnp.zeros(len(BOUNDS))))
    with pytest.raises(InputError, match="must be above 0"):
        find_stationary(design, lanes(), tolerance=0.0)


def test_starts_without_a_bound_are_finite():
    theta, _ = spread_starts(np.asarray([1, 1]), np.asarray([np.inf, 2.0]), STARTS, 2, 2)
    sizes = np.sqrt(sum((np.asarray(x) ** 2).reshape(2, STARTS, -1).sum(axis=-1) for x in theta))
    np.testing.assert_allclose(sizes[0], np.geomspace(0.01, 10, STARTS))
    np.testing.assert_allclose(sizes[1], np.geomspace(0.01, 2, STARTS))
