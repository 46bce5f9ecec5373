"""Rollouts of the model under the current policy (MBPO), and more than one update a step."""

import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import omd
from omd.agents import Prediction, networks, rollouts
from omd.config import Config
from omd.settings import resolve
from omd.types import EnvSpec, Transition

KEY = jax.random.key(9)
SPEC = EnvSpec("probe", 3, num_actions=2)


def column(*values):
    return jnp.asarray(values, float)[:, None]


def starts(*values):
    """Transitions from these states, of which a rollout uses no more than the states."""
    count = len(values)
    nan = jnp.full(count, jnp.nan)
    return Transition(column(*values), jnp.full(count, 7), nan, nan[:, None], jnp.ones(count, bool))


def known(*, ends_above):
    """A model s' = s + 1 + a with reward 10 s + a, a policy that takes 1 where s > 0, else 0, and
    ends where s' is above a limit."""

    def predict(theta, batch, key):
        state, action = batch.observation[:, 0], batch.action
        after = (theta * state + 1 + action)[:, None]
        return Prediction(after, None, after, 10 * state + action)

    def sample(learner, observation, hyper, key):
        return (observation[:, 0] > learner).astype(int), jnp.zeros(len(observation))

    # one unit a layer: relu(relu(s')) · 1 − limit − LOGIT_BEFORE_DATA
    layer = networks.Layer(1, 1, activation="relu", key=KEY, dtype="float64")
    ends = tuple(
        eqx.tree_at(lambda x: (x.weight, x.bias), layer, (jnp.ones((1, 1)), jnp.asarray([bias])))
        for bias in (0.0, 0.0, -ends_above - rollouts.LOGIT_BEFORE_DATA)
    )
    learner = types.SimpleNamespace(sample=sample)
    return types.SimpleNamespace(predict=predict, learner=learner, hyper=None), ends


@pytest.mark.stand_ins
def test_a_rollout_by_hand():
    context, ends = known(ends_above=3.5)
    made = rollouts.unroll(1.0, ends, 0.0, starts(-1.0, 2.0), 3, context, KEY)
    # from −1: action 0 to 0, action 0 to 1, action 1 to 3; from 2: action 1 to 4, an end, and so
    # from 2 again, each time
    np.testing.assert_array_equal(made.observation[..., 0], [[-1, 2], [0, 2], [1, 2]])
    np.testing.assert_array_equal(made.action, [[0, 1], [0, 1], [1, 1]])
    np.testing.assert_array_equal(made.reward, [[-10, 21], [0, 21], [11, 21]])
    np.testing.assert_array_equal(made.next_observation[..., 0], [[0, 4], [1, 4], [3, 4]])
    np.testing.assert_array_equal(made.terminated, [[False, True]] * 3)
    never = rollouts.unroll(1.0, (), 0.0, starts(-1.0, 2.0), 3, context, KEY)
    np.testing.assert_array_equal(never.next_observation[..., 0], [[0, 4], [1, 6], [3, 8]])
    assert not never.terminated.any()


def kept(slots):
    empty = Transition(
        column(*[0.0] * slots),
        jnp.zeros(slots, int),
        jnp.zeros(slots),
        column(*[0.0] * slots),
        jnp.zeros(slots, bool),
    )
    return rollouts.Rollouts(empty, jnp.zeros((), jnp.int32), (), ())


def block(*rewards):
    """Transitions that are told apart by their reward."""
    size = (1, len(rewards))
    return Transition(
        jnp.zeros((*size, 1)),
        jnp.zeros(size, int),
        jnp.asarray([rewards]),
        jnp.zeros((*size, 1)),
        jnp.zeros(size, bool),
    )


def test_the_buffer_holds_the_newest_and_a_minibatch_mixes_it_with_true_transitions():
    now = rollouts.add(kept(5), block(1.0, 2.0, 3.0))
    true = jax.tree.map(lambda x: x[0], block(*[-1.0] * 100))
    drawn = rollouts.mixed(now, true, 0.3, KEY).reward
    assert drawn.shape == (100,)
    np.testing.assert_array_equal(drawn[:30], -1.0)
    assert set(drawn[30:].tolist()) == {1.0, 2.0, 3.0}  # and none of the empty slots
    now = rollouts.add(now, block(4.0, 5.0, 6.0))
    np.testing.assert_array_equal(now.made.reward, [6, 2, 3, 4, 5])
    for more in range(7, 22, 3):
        now = rollouts.add(now, block(*[float(more + i) for i in range(3)]))
    assert sorted(now.made.reward.tolist()) == [17, 18, 19, 20, 21]
    assert now.added < 10  # it doesn't grow without end
    assert set(rollouts.mixed(now, true, 0.0, KEY).reward.tolist()) == {17, 18, 19, 20, 21}
    np.testing.assert_array_equal(rollouts.mixed(now, true, 1.0, KEY).reward, -1.0)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])  # one that needs the parameters too
def test_ends_are_learned(build, optimizer):
    agent, state, hyper = build(
        objective="mle",
        rollout=1,
        learning_rate=1e-2,
        hidden=16,
        model_optimizer=optimizer,
        model_activation="tanh",
    )
    assert {layer.activation for layer in state.rollouts.ends} == {"tanh"}
    context = agent.context(KEY, hyper)
    reached = jax.random.normal(KEY, (256, 3))
    blank = jnp.zeros(256)
    batch = Transition(reached, blank.astype(int), blank, reached, reached[:, 1] > 0.5)
    assert not rollouts.has_ended(state.rollouts.ends, reached).any()
    learn = jax.jit(lambda kept: rollouts.learn_ends(kept, batch, context))
    now = state.rollouts
    for _ in range(300):
        now = learn(now)
    assert (rollouts.has_ended(now.ends, reached) == batch.terminated).mean() > 0.97


def test_one_step_from_stored_states_with_the_policy(build, batch):
    """An update with rollouts of one step and no true transitions, worked out again."""
    agent, state, hyper = build(
        objective="mle",
        learner="sac",
        rollout=1,
        real_share=0.0,
        model_capacity=16,
        batch_size=16,
        rollout_ends="never",
    )
    fitted, inner, begin = (batch(i, continuous=True) for i in range(3))
    after, info = jax.jit(agent.update)(state, [fitted, inner, begin], KEY, hyper)
    context = agent.context(KEY, hyper)
    # what the model makes of the third minibatch's states at actions of the policy
    made = after.rollouts.made
    np.testing.assert_array_equal(made.observation, begin.observation)
    assert bool((made.action != begin.action).all())
    again = agent.model.predict(after.theta, made, KEY)
    np.testing.assert_allclose(made.next_observation, again.sample, rtol=1e-12)
    np.testing.assert_allclose(made.reward, again.reward, rtol=1e-12)
    # and the learner's step on a draw from these alone
    (inner_key,) = agent.objective.inner_keys(KEY)
    (mixing,) = agent.objective.mixing_keys(KEY)
    drawn = rollouts.mixed(after.rollouts, inner, 0.0, mixing)
    y = context.targets(state.learner, drawn.reward, drawn.next_observation, drawn, inner_key)
    by_hand, _ = agent.learner.step(state.learner, y, drawn, hyper, inner_key)
    for mine, theirs in zip(*map(jax.tree.leaves, (by_hand, after.learner)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
    assert float(info["rollout_ended"]) == 0


def test_several_updates_are_one_after_another(build, batch):
    twice, state, hyper = build(objective="mle", updates=2)
    once, _, _ = build(objective="mle")
    batches = [batch(i) for i in range(4)]
    assert twice.minibatches == 4
    after, info = jax.jit(twice.update)(state, batches, KEY, hyper)
    first, second = jax.random.split(KEY)
    one, info_one = once.update(state, batches[:2], first, hyper)
    two, info_two = once.update(one, batches[2:], second, hyper)
    for mine, theirs in zip(*map(jax.tree.leaves, (two, after)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
    mean = (info_one["outer_loss"] + info_two["outer_loss"]) / 2
    np.testing.assert_allclose(info["outer_loss"], mean, rtol=1e-9)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"objective": "omd"}, "objective 'omd' trains the learner in a way of its own"),
        ({"objective": "none"}, "objective 'none' trains the learner"),
        ({"objective": "self-prediction:beside=omd"}, "trains the learner in a way of its own"),
        ({"reward": "known"}, "rewards are known only at stored actions"),
        ({"rollout": 500, "replay_capacity": 2000}, "makes 128000 transitions at a time, but"),
        ({"model_capacity": 255}, "the model buffer holds 255"),
        ({"rollout": 0, "real_share": 0.5}, "real_share is 0.5, but rollout is 0"),
        ({"rollout": 0, "model_capacity": 5}, "model_capacity is 5, but rollout is 0"),
        ({"rollout": -1}, "rollout is -1"),
        ({"real_share": 1.5}, "real_share is 1.5"),
        ({"updates": 0}, "updates is 0"),
    ],
)
def test_rollouts_that_cannot_work_are_one_sentence(settings, sentence):
    with pytest.raises(omd.InputError, match=sentence):
        resolve(Config(**{"objective": "mle", "rollout": 1, **settings}), SPEC)


def test_every_objective_that_fits_the_model_first_takes_rollouts():
    for objective in ("mle", "vep", "vagram", "vaml", "paml", "self-prediction:beside=mle"):
        assert resolve(Config(objective=objective, rollout=1), SPEC).model_slots == 25_600
