"""Conventions that no formula shows: when moments are fresh, what stays constant, how many there
are, and that evaluations don't explore."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd.training import evaluation
from omd.types import Step

KEY = jax.random.key(4)


@pytest.mark.parametrize(("moments", "fresh"), [("reset", True), ("keep", False)])
def test_with_fresh_moments_every_first_step_of_adam_is_the_rate(build, batch, moments, fresh):
    agent, state, hyper = build(inner_optimizer=moments, critics=1)
    rates, update = [], jax.jit(agent.update)
    for i in range(3):
        after, _ = update(state, [batch(i)], KEY, hyper)
        moved = jax.tree.map(lambda a, b: jnp.abs(a - b), after.learner.w, state.learner.w)
        sizes = jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(moved)])
        rates.append(np.asarray(sizes[sizes > 0]) / float(hyper.inner_learning_rate))
        state = after
    np.testing.assert_allclose(np.median(rates[0]), 1, rtol=1e-3)
    later = [abs(np.median(rate) - 1) < 1e-3 for rate in rates[1:]]
    assert all(later) if fresh else not any(later)


def test_vep_has_five_value_networks_that_never_move(build, batch):
    agent, state, hyper = build(objective="vep")
    assert len(state.constants) == 5
    batches = [batch(i) for i in range(agent.objective.minibatches)]
    after, _ = jax.jit(agent.update)(state, batches, KEY, hyper)
    for mine, theirs in zip(*map(jax.tree.leaves, (after.constants, state.constants)), strict=True):
        np.testing.assert_array_equal(mine, theirs)


class Counter:
    """Episodes of ten steps at one observation; the reward is the action."""

    def reset(self, keys):
        return jnp.zeros(len(keys), jnp.int32), jnp.ones((len(keys), 3))

    def step(self, state, action, keys):
        state, never = state + 1, jnp.zeros(len(keys), bool)
        seen = jnp.ones((len(keys), 3))
        return state, Step(seen, seen, action * 1.0, never, state % 10 == 0)


@pytest.mark.stand_ins
def test_an_evaluation_neither_explores_nor_counts_beyond_its_episode(build):
    agent, state, hyper = build(learner="soft-q:operator=hard", epsilon=1.0, evaluate_episodes=20)
    best = int(agent.learner.greedy(state.learner, jnp.ones((1, 3)))[0])
    one = jax.tree.map(lambda x: x[None], (state, hyper))
    settings = agent.objective.settings
    found = evaluation.evaluate(agent, Counter(), *one, jax.random.split(KEY, 1), settings)
    assert float(found["episode_return"][0]) == 10 * best
    assert float(found["episode_length"][0]) == 10


@pytest.mark.stand_ins
def test_an_evaluation_is_cut_where_it_says(build):
    settings = {"learner": "soft-q:operator=hard", "evaluate_episodes": 1, "evaluate_max_steps": 7}
    agent, state, hyper = build(**settings)
    one = jax.tree.map(lambda x: x[None], (state, hyper))
    found = evaluation.evaluate(
        agent, Counter(), *one, jax.random.split(KEY, 1), agent.objective.settings
    )
    assert float(found["episode_length"][0]) == 7
