import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd.agents.learners.learner import smallest
from omd.agents.learners.sac import Noise

KEY = jax.random.key(5)


@pytest.fixture
def sac(build):
    def make(**settings):
        agent, state, hyper = build(learner="sac", **settings)
        # away from the start, where the policy is the same in all states
        flat, unravel = jax.flatten_util.ravel_pytree(state.learner)
        scattered = flat + 0.3 * jax.random.normal(KEY, flat.shape)
        return agent.learner, unravel(scattered)._replace(moments=state.learner.moments), hyper

    return make


def test_the_density_is_that_of_the_squashed_gaussian(sac):
    """log π by change of variables, with the Jacobian of tanh by automatic differentiation."""
    learner, state, _ = sac()
    x = jax.random.normal(KEY, (3, 7))
    normal = jax.random.normal(jax.random.key(2), (2, 7))
    unit, log_density = learner.squashed(state.target.actor, x, normal)
    mean, log_std = learner._gaussian(state.target.actor, x)
    u = mean + normal * jnp.exp(log_std)
    slope = jax.vmap(jax.vmap(jax.grad(jnp.tanh)))(u)
    expected = jax.scipy.stats.norm.logpdf(u, mean, jnp.exp(log_std)) - jnp.log(slope)
    np.testing.assert_allclose(log_density, expected.sum(axis=0), rtol=1e-10)
    np.testing.assert_allclose(unit, jnp.tanh(u), rtol=1e-12)


def test_the_density_integrates_to_one(sac):
    learner, state, _ = sac()
    x = jnp.array([[0.3], [-0.4], [1.1]])
    mean, log_std = learner._gaussian(state.target.actor, x)
    # a grid over both actions, in the Gaussian's own coordinates
    grid = jnp.tanh(jnp.linspace(-8, 8, 801))
    a = jnp.stack([g.ravel() for g in jnp.meshgrid(grid, grid)])
    normal = (jnp.arctanh(a) - mean) / jnp.exp(log_std)
    _, log_density = learner.squashed(state.target.actor, jnp.tile(x, (1, a.shape[1])), normal)
    density = jnp.exp(log_density).reshape(801, 801)
    total = jnp.trapezoid(jnp.trapezoid(density, grid, axis=1), grid)
    np.testing.assert_allclose(total, 1, rtol=1e-3)


def test_actions_keep_to_the_range_and_explore_it_uniformly(sac):
    learner, state, hyper = sac()
    bits = jax.random.bits(KEY, (4000, learner.action_bits), "uint32")
    noise = jax.vmap(learner.noise)(bits)
    observation = jnp.array([0.1, 2.0, -1.0])
    act = jax.vmap(
        lambda n, e: learner.act(state, observation, n, hyper._replace(epsilon=e)), (0, None)
    )
    for epsilon in (0.0, 2.0):
        actions = np.asarray(act(noise, epsilon))
        assert (actions >= [-1, -3]).all()
        assert (actions <= [1, 5]).all()
    unit = (actions - [0, 1]) / [1, 4]
    np.testing.assert_allclose(unit.mean(axis=0), 0, atol=4 / np.sqrt(3 * 4000))
    np.testing.assert_allclose(unit.var(axis=0), 1 / 3, rtol=0.1)
    np.testing.assert_allclose(noise.normal.mean(axis=0), 0, atol=4 / np.sqrt(4000))
    np.testing.assert_allclose(noise.normal.std(axis=0), 1, atol=0.06)


def test_evaluations_take_the_action_of_the_mean(sac):
    learner, state, hyper = sac()
    observation = jnp.array([[0.1, 2.0, -1.0], [1.0, 0.0, 0.0]])
    noise = learner.evaluation_noise(jax.random.bits(KEY, (learner.action_bits,), "uint32"))
    greedy = learner.greedy(state, observation)
    for one, expected in zip(observation, greedy, strict=True):
        np.testing.assert_allclose(learner.act(state, one, noise, hyper), expected, rtol=1e-12)
    mean, _ = learner._gaussian(state.target.actor, observation.T)
    by_hand = jnp.array([0.0, 1.0]) + jnp.tanh(mean).T * jnp.array([1.0, 4.0])
    np.testing.assert_allclose(greedy, by_hand, rtol=1e-12)
    sampled = Noise(jnp.ones(2), jnp.array(0.5), jnp.zeros(2))
    assert not np.allclose(learner.act(state, observation[0], sampled, hyper), greedy[0])


def test_targets_by_hand(sac, batch):
    learner, state, hyper = sac()
    data = batch(0, continuous=True)
    y = learner.targets(state.target, data.reward, data.next_observation, data, hyper, KEY)
    x = data.next_observation.T
    unit, log_density = learner.squashed(
        state.target.actor, x, jax.random.normal(KEY, (2, x.shape[1]))
    )
    value = jnp.minimum(*learner.q(state.target.critics, x, unit))
    value -= jnp.exp(state.target.log_temperature) * log_density
    expected = data.reward + 0.99 * jnp.where(data.terminated, 0, value)
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    assert 0 < data.terminated.sum() < len(data.terminated)


def test_gradients_reach_the_next_state_through_the_target_critics_alone(sac, batch):
    learner, state, hyper = sac()
    data = batch(0, continuous=True)

    def total(next_observation):
        return jnp.sum(
            learner.targets(state.target, data.reward, next_observation, data, hyper, KEY)
        )

    x = data.next_observation.T
    unit, _ = learner.squashed(state.target.actor, x, jax.random.normal(KEY, (2, x.shape[1])))

    def at_fixed_actions(x):
        value = jnp.minimum(*learner.q(state.target.critics, x, unit))
        return jnp.sum(jnp.where(data.terminated, 0, 0.99 * value))

    np.testing.assert_allclose(
        jax.grad(total)(data.next_observation), jax.grad(at_fixed_actions)(x).T, rtol=1e-10
    )


def test_a_step_descends_all_three_losses(sac, batch):
    """Adam's first step is the sign of the gradient: losses written out again, from the paper."""
    learner, state, hyper = sac(inner_learning_rate=0.01, tau=0.25, epsilon=0)
    state = state._replace(
        actor_moments=learner.optimizer(0.0).init((state.target.actor, jnp.zeros(())))
    )
    data = batch(3, continuous=True)
    y = learner.targets(state.target, data.reward, data.next_observation, data, hyper, KEY)
    after, info = learner.step(state, y, data, hyper, KEY)

    critic_gradient = jax.grad(learner.bellman_error)(state.w, state.target, data, hyper, KEY)
    x, temperature = data.observation.T, jnp.exp(state.target.log_temperature)
    normal = jax.random.normal(jax.random.fold_in(KEY, 1), (2, x.shape[1]))

    def actor_loss(actor):
        unit, log_density = learner.squashed(actor, x, normal)
        return jnp.mean(temperature * log_density - jnp.minimum(*learner.q(after.w, x, unit)))

    actor_gradient = jax.grad(actor_loss)(state.target.actor)
    _, log_density = learner.squashed(state.target.actor, x, normal)
    entropy = -jnp.mean(log_density)
    np.testing.assert_allclose(info["entropy"], entropy, rtol=1e-12)
    np.testing.assert_allclose(info["actor_loss"], actor_loss(state.target.actor), rtol=1e-12)
    assert learner.aimed_entropy == -1

    pairs = [
        (after.w, state.w, critic_gradient),
        (after.target.actor, state.target.actor, actor_gradient),
        (
            after.target.log_temperature,
            state.target.log_temperature,
            temperature * (entropy + 1),
        ),
    ]
    for trees in pairs:
        for new, old, g in zip(*map(jax.tree.leaves, trees), strict=True):
            g = np.asarray(g)
            np.testing.assert_allclose(
                new - old, -0.01 * g / (np.abs(g) + 1e-8), rtol=1e-6, atol=1e-13
            )
    moved = jax.tree.map(lambda w, old: 0.25 * w + 0.75 * old, after.w, state.target.critics)
    for mine, theirs in zip(*map(jax.tree.leaves, (after.target.critics, moved)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


def test_the_policy_finds_the_best_action_of_a_known_bandit(build, batch):
    """One state, reward −(a − a*)²: after training at true targets the mean is a*."""
    agent, state, hyper = build(
        learner="sac",
        objective="none",
        hidden=32,
        inner_learning_rate=3e-3,
        discount=0,
        tau=0.05,
        temperature=0.1,
    )
    best = jnp.array([0.5, -1.0])
    observation = jnp.ones((64, 3))

    @jax.jit
    def train(state):
        def step(state, key):
            unit = jax.random.uniform(key, (64, 2), minval=-1, maxval=1)
            action = unit * jnp.array([1.0, 4.0]) + jnp.array([0.0, 1.0])
            reward = -jnp.sum(jnp.square((action - best) / jnp.array([1.0, 4.0])), axis=1)
            data = batch(0, size=64, continuous=True)._replace(
                observation=observation, next_observation=observation, action=action, reward=reward
            )
            return agent.update(state, [data], key, hyper)

        return jax.lax.scan(step, state, jax.random.split(KEY, 1500))

    state, info = train(state)
    found = agent.learner.greedy(state.learner, observation[:1])[0]
    np.testing.assert_allclose((found - best) / jnp.array([1, 4]), 0, atol=0.1)
    # the temperature holds the entropy at −dim/2
    np.testing.assert_allclose(jnp.mean(info["entropy"][-200:]), -1, atol=0.2)


def test_the_smallest_critic_alone_has_the_gradient():
    values = jnp.array([[1.0, 5.0, 2.0], [3.0, 4.0, 2.0], [2.0, 6.0, 0.5]])
    np.testing.assert_array_equal(smallest(values), [1.0, 4.0, 0.5])
    np.testing.assert_array_equal(smallest(values[:1]), values[0])
    gradient = jax.grad(lambda x: smallest(x).sum())(values)
    np.testing.assert_array_equal(gradient, [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    tied = jax.grad(lambda x: smallest(x).sum())(jnp.ones((2, 1)))
    assert tied.sum() == 1
