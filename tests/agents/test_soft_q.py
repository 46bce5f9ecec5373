import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import agents, tabular
from omd.agents.learners.soft_q import Noise, SoftQ
from omd.config import Config
from omd.settings import resolve
from omd.types import EnvSpec, Transition

KEY = jax.random.key(5)


def one_hot_batch(mdp):
    """Every state and action of a deterministic MDP, states as one-hot vectors."""
    states, actions = mdp.reward.shape
    s, a = (x.ravel() for x in jnp.meshgrid(jnp.arange(states), jnp.arange(actions), indexing="ij"))
    successor = jnp.argmax(mdp.transition[s, a], axis=1)
    eye = jnp.eye(states)
    return Transition(eye[s], a, mdp.reward[s, a], eye[successor], jnp.zeros(len(s), bool))


@pytest.mark.parametrize("operator", ["soft", "hard"])
def test_one_hot_states_give_the_tabular_bellman_operator(operator):
    key = jax.random.key(0)
    states, actions = 4, 3
    successor = jax.random.randint(key, (states, actions), 0, states)
    mdp = tabular.MDP(
        transition=jax.nn.one_hot(successor, states),
        reward=jax.random.normal(key, (states, actions)),
        discount=0.9,
        initial=jnp.full(states, 1 / states),
    )
    spec = EnvSpec("tabular", states, actions)
    asked = Config(
        learner=SoftQ(operator=operator),
        critics=1,
        precision="float64",
        discount=0.9,
        temperature=0.3,
    )
    config = resolve(asked, spec)
    learner = agents.build(config, spec).learner
    target = learner.init(key, agents.hyper(config)).target
    q = learner.q(target, jnp.eye(states))[0].T
    batch = one_hot_batch(mdp)
    y = learner.targets(
        target, batch.reward, batch.next_observation, batch, agents.hyper(config), key
    )
    if operator == "hard":
        expected = tabular.hard_bellman(mdp.transition, mdp.reward, mdp.discount, q)
    else:
        expected = tabular.soft_bellman(mdp.transition, mdp.reward, mdp.discount, q, 0.3)
    np.testing.assert_allclose(y.reshape(states, actions), expected, rtol=1e-12)


def test_targets_take_the_smaller_critic_and_stop_at_terminations(build, batch):
    agent, state, hyper = build()
    data = batch(0)
    q = jnp.minimum(*agent.learner.q(state.learner.target, data.next_observation))
    value = 0.01 * jax.scipy.special.logsumexp(q / 0.01, axis=0)
    expected = data.reward + 0.99 * jnp.where(data.terminated, 0, value)
    y = agent.learner.targets(
        state.learner.target, data.reward, data.next_observation, data, hyper, KEY
    )
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    assert 0 < data.terminated.sum() < len(data.terminated)


def test_the_soft_value_tends_to_the_hard_one(build, batch):
    agent, state, hyper = build()
    hard, *_ = build(learner="soft-q:operator=hard")
    observation = batch(0).observation
    scaled = jax.tree.map(lambda x: 3 * x, state.learner.w)
    gaps = [
        jnp.max(
            agent.learner.value(scaled, observation, hyper._replace(temperature=t), KEY)
            - hard.learner.value(scaled, observation, hyper, KEY)
        )
        for t in (1e-2, 1e-3, 1e-4)
    ]
    assert gaps[0] > gaps[1] > gaps[2] >= 0
    assert gaps[2] <= 1e-4 * np.log(2) + 1e-12


def test_actions_follow_the_softmax_of_the_critics_mean(build):
    agent, state, hyper = build(temperature=0.01, epsilon=0)
    observation = jnp.array([0.3, -1.0, 0.7])
    count = 20_000
    bits = jax.random.bits(jax.random.key(0), (count, agent.learner.action_bits), "uint32")
    noise = jax.vmap(agent.learner.noise)(bits)
    act = jax.vmap(lambda n: agent.learner.act(state.learner, observation, n, hyper))
    q = sum(agent.learner.q(state.learner.w, observation[None]))[:, 0] / 2
    expected = float(jax.nn.softmax(q / 0.01)[1])
    assert 0.05 < expected < 0.95
    assert abs(float(jnp.mean(act(noise))) - expected) < 4 * np.sqrt(0.25 / count)


def test_epsilon_one_explores_uniformly_and_zero_never(build):
    agent, state, hyper = build(learner="soft-q:operator=hard", epsilon=0)
    observation = jnp.ones(3)
    q = sum(agent.learner.q(state.learner.w, observation[None]))[:, 0]
    for choice in (0, 1):
        noise = Noise(jnp.zeros(2), jnp.array(0.5), jnp.array(choice))
        always = hyper._replace(epsilon=1.0)
        assert agent.learner.act(state.learner, observation, noise, always) == choice
        greedy = agent.learner.act(state.learner, observation, noise, hyper)
        assert greedy == jnp.argmax(q)
        assert agent.learner.greedy(state.learner, observation[None]) == greedy


def test_a_step_is_adam_on_eq_10_and_moves_the_target(build, batch):
    agent, state, hyper = build(tau=0.25, inner_learning_rate=0.01)
    learner, data = agent.learner, batch(3)
    y = learner.targets(state.learner.target, data.reward, data.next_observation, data, hyper, KEY)
    after, info = learner.step(state.learner, y, data, hyper, KEY)
    loss, gradient = jax.value_and_grad(learner.bellman_error)(
        state.learner.w, state.learner.target, data, hyper, KEY
    )
    np.testing.assert_allclose(info["inner_loss"], loss, rtol=1e-12)
    for new, old, g in zip(
        *map(jax.tree.leaves, (after.w, state.learner.w, gradient)), strict=True
    ):
        g = np.asarray(g)
        # Adam's first step, ε = 1e-8
        np.testing.assert_allclose(new - old, -0.01 * g / (np.abs(g) + 1e-8), rtol=1e-7, atol=1e-15)
    for target, new, old in zip(
        *map(jax.tree.leaves, (after.target, after.w, state.learner.target)), strict=True
    ):
        np.testing.assert_allclose(target, 0.25 * new + 0.75 * old, rtol=1e-12)
