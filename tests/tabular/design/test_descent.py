import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from omd import implicit, tabular
from omd.errors import InputError
from omd.implicit import Status
from omd.tabular.design.descent import descend, uniform_starts
from omd.tabular.design.formulation import BELLMAN_ERROR, LIKELIHOOD, RETURN, Design
from omd.tabular.design.parallel import Lanes
from omd.tabular.design.projection import ball, reference

STEPS = 200
"""One number, so that tests share their compiled programs."""


def lanes(bounds, seeds, noise=None):
    seed = jnp.asarray(seeds)
    theta, q = uniform_starts(seed, 2, 2)
    level = None if noise is None else jnp.asarray(noise)
    return Lanes(theta, q, jnp.asarray(bounds, float), seed, level)


def lane(i, several):
    return jax.tree.map(lambda x: x[i : i + 1], several)


def assert_same(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


def test_lanes_are_independent():
    """Each lane of four, with noise and bounds of its own, is the same lane alone."""
    design = Design(tabular.paper_mdp(), BELLMAN_ERROR, temperature=0.5)
    four = lanes([0.0, 1.0, 3.0, np.inf], [1, 2, 3, 3], [0.0, 0.01, 0.1, 0.1])
    together = descend(design, four, max_steps=STEPS)
    for i in range(4):
        alone = descend(design, lane(i, four), max_steps=STEPS)
        assert_same(lane(i, together), alone, rtol=1e-9, atol=1e-150)


def test_hypergradients_can_be_lanes():
    design = Design(tabular.paper_mdp(), BELLMAN_ERROR, temperature=0.5)
    two = lanes([np.inf, np.inf], [1, 1])
    several = two._replace(hypergradient=implicit.Neumann(terms=3, step=jnp.asarray([0.5, 1.0])))
    together = descend(design, several, max_steps=STEPS)
    for i, step in enumerate((0.5, 1.0)):
        method = implicit.Neumann(terms=3, step=jnp.asarray(step))
        alone = dataclasses.replace(design, hypergradient=method)
        assert_same(lane(i, together), descend(alone, lane(i, two), max_steps=STEPS), rtol=1e-9)


@pytest.mark.as_shipped
@pytest.mark.parametrize(("objective", "value"), [(LIKELIHOOD, -0.482), (RETURN, 0.092)])
def test_the_published_figure(objective, value):
    """Published figure 2: J at κ = 0.947, mean over ten seeds, with the program's projection."""
    design = Design(tabular.paper_mdp(), objective, logit_temperature=0.01)
    ten = lanes([np.linspace(0, 6, 20)[3]] * 10, range(1, 11))
    end = descend(design, ten, projection=reference)
    assert float(end.expected_return.mean()) == pytest.approx(value, abs=2e-3)


def test_settled_lanes_stop_early():
    """With a bound of 0 there is nothing to move: the second update changes nothing."""
    end = descend(Design(tabular.paper_mdp(), LIKELIHOOD), lanes([0.0, 2.0], [1, 1]), max_steps=50)
    assert end.status.tolist() == [Status.CONVERGED, Status.MAX_STEPS]
    assert end.steps.tolist() == [2, 50]
    assert_same(end.theta.reward[0], np.zeros((2, 2)), atol=1e-150)


@pytest.mark.parametrize("projection", [ball, reference])
def test_plain_gradient_descent_finds_the_likeliest_model(projection):
    """Any optax optimiser will do; without a bound the truth is found, and settles."""
    design = Design(tabular.paper_mdp(), LIKELIHOOD)
    end = descend(
        design,
        lanes([np.inf], [1]),
        projection=projection,
        optimizer=optax.sgd(1.0, momentum=0.9),
    )
    assert end.status[0] == Status.CONVERGED
    np.testing.assert_allclose(design.transition(end.theta)[0], design.mdp.transition, atol=1e-6)
    assert float(end.expected_return[0]) == pytest.approx(1.02726, abs=1e-5)


def test_overflow_is_told():
    end = descend(
        Design(tabular.paper_mdp(), LIKELIHOOD), lanes([np.inf], [1]), optimizer=optax.sgd(1e200)
    )
    assert end.status[0] == Status.NON_FINITE
    assert end.steps[0] < 100


def test_without_noise_both_returns_agree():
    design = Design(tabular.paper_mdp(), BELLMAN_ERROR)
    silent = descend(design, lanes([2.0], [1]), max_steps=STEPS)
    zero = descend(design, lanes([2.0], [1], [0.0]), max_steps=STEPS)
    noisy = descend(design, lanes([2.0], [1], [0.5]), max_steps=STEPS)
    assert_same(silent, zero, rtol=1e-12)
    assert silent.noisy_return == silent.expected_return
    assert noisy.noisy_return != noisy.expected_return


def test_result_is_a_fixed_point_of_its_model():
    for objective in (LIKELIHOOD, BELLMAN_ERROR):
        design = Design(tabular.paper_mdp(), objective)
        end = descend(design, lanes([2.0], [4]), max_steps=STEPS)
        theta = jax.tree.map(lambda x: x[0], end.theta)
        np.testing.assert_allclose(design.operator(end.q[0], theta), end.q[0], atol=1e-12)
        value, _ = design.loss(theta, end.q[0])
        assert float(value) == pytest.approx(float(end.loss[0]), rel=1e-10)


def test_bad_input():
    design = Design(tabular.paper_mdp(), RETURN)
    with pytest.raises(InputError, match="norm_bound must be 0 or more"):
        descend(design, lanes([-1.0], [1]))
    with pytest.raises(InputError, match="max_steps must be at least 1, but is 0"):
        descend(design, lanes([1.0], [1]), max_steps=0)
