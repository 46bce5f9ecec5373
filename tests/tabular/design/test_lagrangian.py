import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from omd import tabular
from omd.errors import InputError
from omd.implicit import Status
from omd.tabular.design.descent import uniform_starts
from omd.tabular.design.formulation import BELLMAN_ERROR, LIKELIHOOD, Design
from omd.tabular.design.lagrangian import find_saddle
from omd.tabular.design.parallel import Lanes


def lanes(bounds, seeds):
    seed = jnp.asarray(seeds)
    theta, q = uniform_starts(seed, 2, 2)
    return Lanes(theta, q, jnp.asarray(bounds, float), seed)


def test_finds_the_solution_of_the_problem():
    """Eq. (6) without a bound: Q is Q*, the model's fixed point, and λ has nothing to balance."""
    mdp = tabular.paper_mdp()
    design = Design(mdp, BELLMAN_ERROR, logit_temperature=0.01)
    end = find_saddle(design, lanes([np.inf] * 3, [1, 2, 3]), max_steps=20_000, tolerance=1e-8)
    assert (end.status == Status.CONVERGED).all()
    assert float(end.violation.max()) < 1e-6
    np.testing.assert_allclose(end.q, jnp.stack([tabular.solve(mdp).q] * 3), atol=1e-3)
    np.testing.assert_allclose(end.expected_return, 1.02726, atol=1e-4)
    np.testing.assert_allclose(end.model_return, end.expected_return, atol=1e-4)


def test_multipliers_are_the_adjoint():
    """At a saddle point ∂objective/∂Q + (∂h/∂Q)ᵀλ = 0: λ is −u of the implicit route."""
    design = Design(tabular.paper_mdp(), BELLMAN_ERROR, temperature=0.5)
    schedule = optax.exponential_decay(0.02, 1000, 0.5)
    end = find_saddle(
        design, lanes([0.5], [1]), optimizer=optax.adam(schedule), max_steps=30_000, tolerance=1e-9
    )
    assert float(end.violation[0]) < 1e-6
    theta, q = jax.tree.map(lambda x: x[0], (end.theta, end.q))
    g = jax.grad(lambda x: design.objective.loss(x, theta, design))(q)
    jacobian = jax.jacobian(lambda x: design.constraint(x, theta, design))(q).reshape(4, 4)
    u = np.linalg.solve(jacobian.T, g.reshape(4)).reshape(2, 2)
    np.testing.assert_allclose(end.multiplier[0], -u, atol=1e-3)


def test_lanes_are_independent():
    # a smooth problem: Adam turns rounding into steps where gradients have vanished
    design = Design(tabular.paper_mdp(), BELLMAN_ERROR, temperature=0.5)
    three = lanes([np.inf, 1.0, 2.0], [1, 2, 3])
    end = find_saddle(design, three, max_steps=100)
    alone = find_saddle(design, jax.tree.map(lambda x: x[1:2], three), max_steps=100)
    for x, y in zip(jax.tree.leaves(alone), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(x[0], y[1], rtol=1e-9)
    assert (end.status == Status.MAX_STEPS).all()


def test_likelihood_needs_no_multiplier():
    """Where the objective ignores Q, the saddle point has λ = 0 and Q follows the model."""
    design = Design(tabular.paper_mdp(), LIKELIHOOD)
    end = find_saddle(design, lanes([np.inf], [1]), optimizer=optax.sgd(0.05), max_steps=20_000)
    np.testing.assert_allclose(end.multiplier, 0, atol=5e-3)
    assert float(end.violation[0]) < 1e-4


def test_bad_input():
    design = Design(tabular.paper_mdp(), BELLMAN_ERROR)
    one = lanes([1.0], [1])
    with pytest.raises(InputError, match="norm_bound must be 0 or more"):
        find_saddle(design, lanes([-1.0], [1]))
    with pytest.raises(InputError, match="no inner solution to add noise to"):
        find_saddle(design, one._replace(noise=jnp.zeros(1)))
    with pytest.raises(InputError, match="penalty not below, but they are"):
        find_saddle(design, one, penalty=-1.0)
