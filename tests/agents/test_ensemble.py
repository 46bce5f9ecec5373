import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import omd
from omd.agents.models.ensemble import Ensemble, Statistics, _moved
from omd.types import Transition

KEY = jax.random.key(3)


def numbers(size, key=KEY):
    """Transitions s' = s + 1000 + (a − ½)·noise in a state of three scales."""
    keys = jax.random.split(key, 3)
    observation = jax.random.normal(keys[0], (size, 3)) * jnp.array([1.0, 100.0, 0.01])
    action = jax.random.randint(keys[1], (size,), 0, 2)
    change = jnp.array([1.0, 100.0, 0.01]) * (2.0 * action[:, None] - 1)
    return Transition(
        observation, action, 5.0 * action, observation + change, jnp.zeros(size, bool)
    )


def test_statistics_are_those_of_all_that_was_seen():
    data = jax.random.normal(KEY, (4, 10, 2)) * 3 + 7
    seen = Statistics(jnp.zeros(2), jnp.ones(2))
    for i, batch in enumerate(data):
        seen = _moved(seen, batch, jnp.asarray(1 / (i + 1)))
    every = data.reshape(-1, 2)
    np.testing.assert_allclose(seen.mean, every.mean(0), rtol=1e-12)
    np.testing.assert_allclose(seen.variance, every.var(0), rtol=1e-12)


@pytest.fixture
def trained(build):
    """An agent whose ensemble has fitted the transitions above for a while."""
    agent, state, hyper = build(
        model="ensemble:members=3,elites=2,hidden=8,layers=3", objective="mle", learning_rate=1e-2
    )
    model, optimizer = agent.model, optax.adam(1e-2)

    @jax.jit
    def step(carry, key):
        theta, moments = carry
        batch = numbers(64, key)
        theta = model.observe(theta, batch, hyper.learning_rate)
        (loss, _), gradient = jax.value_and_grad(model.likelihood, has_aux=True)(theta, batch, key)
        updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(theta, updates), moments), (loss, gradient)

    carry = (state.theta, optimizer.init(state.theta))
    (theta, _), (losses, gradients) = jax.lax.scan(step, carry, jax.random.split(KEY, 400))
    return model, theta, losses, gradients


def test_members_learn_in_units_of_the_data_and_the_elites_predict(trained):
    model, theta, losses, gradients = trained
    data = numbers(200, jax.random.key(8))
    made = model.predict(theta, data, KEY)
    scale = jnp.array([1.0, 100.0, 0.01])
    assert float(jnp.abs((made.mean - data.next_observation) / scale).max()) < 0.5
    np.testing.assert_allclose(made.reward, data.reward, atol=0.5)
    drawn = (made.sample - made.mean) / jnp.exp(made.log_std)
    noise = jax.random.normal(jax.random.split(KEY)[1], (200, 3))
    np.testing.assert_allclose(drawn, noise, atol=1e-6)
    assert float(losses[-1]) < float(losses[0]) - 5
    for part in (gradients.inputs, gradients.targets, gradients.errors, gradients.seen):
        assert all(float(jnp.abs(x).max()) == 0 for x in jax.tree.leaves(part))
    # elites are the members with the lowest held-out error
    data = numbers(400)
    held = model.is_held_out(data)
    assert 0.05 < float(held.mean()) < 0.16
    np.testing.assert_array_equal(held[:7], model.is_held_out(jax.tree.map(lambda x: x[:7], data)))
    # a member that is told apart by its output: it is drawn unless its error is the highest
    last = theta.members[-1]
    marked = jax.tree.map(lambda x: x.at[1].set(0) if x.ndim == 3 else x.at[1].set(9.0), last)
    theta = theta._replace(members=(*theta.members[:-1], marked))
    other = model.predict(theta._replace(errors=jnp.array([0.0, 2.0, 1.0])), data, KEY)
    own = model.predict(theta._replace(errors=jnp.array([1.0, 0.0, 2.0])), data, KEY)
    far = lambda p: jnp.mean(p.mean[:, 0] - data.observation[:, 0] > 5)  # noqa: E731
    assert float(far(other)) == 0
    assert 0.4 < float(far(own)) < 0.6


def test_the_likelihood_is_over_what_is_not_held_out(build):
    agent, state, _ = build(model="ensemble:members=2,held_out=0.5", objective="mle")
    data = numbers(40)
    held = agent.model.is_held_out(data)
    kept = jax.tree.map(lambda x: x[np.asarray(~held)], data)
    loss, _ = agent.model.likelihood(state.theta, data, KEY)
    every = agent.model._errors(state.theta, kept)
    np.testing.assert_allclose(loss, every.mean(), rtol=1e-12)


@pytest.mark.parametrize("objective", ["mle", "omd"])
def test_an_ensemble_trains_with_any_objective(build, batch, objective):
    agent, state, hyper = build(model="ensemble:members=2", objective=objective, learner="sac")
    batches = [batch(i, 16, continuous=True) for i in range(agent.objective.minibatches)]
    after, info = jax.jit(agent.update)(state, batches, KEY, hyper)
    assert float(info["outer_gradient_norm"]) > 0
    assert float(after.theta.seen) == 1
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(after))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"members": 1, "elites": 1}, "elites of an ensemble of one"),
        ({"members": 3, "elites": 4}, "elites is 4, but the ensemble has 3 members"),
        ({"elites": 2, "held_out": 0.0}, "give held_out above 0"),
        ({"held_out": 1.0}, "held_out of ensemble is 1.0"),
        ({"layers": 0}, "layers of ensemble is 0"),
    ],
)
def test_ensembles_that_cannot_work_are_one_sentence(settings, sentence):
    with pytest.raises(omd.InputError, match=sentence):
        Ensemble(**settings)
