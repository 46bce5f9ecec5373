"""Optimisers as parts: their steps by hand, and that a run uses those it was given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import parts


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        # of the gradients 4, 4 from the parameter 10, at rate 0.5
        ("adam", [-0.5, -0.5]),
        ("adamw:weight_decay=0.1", [-0.5 - 0.5 * 0.1 * 10, -0.5 - 0.5 * 0.1 * 9]),
        ("sgd", [-2, -2]),
        ("sgd:momentum=0.5", [-2, -3]),
        ("sgd:momentum=0.5,nesterov=true", [-3, -3.5]),
        ("rmsprop:decay=0.75", [-0.5 * 4 / 2, -0.5 * 4 / 7**0.5]),
        ("rmsprop:decay=0.75,momentum=0.5", [-1, -0.5 - 2 / 7**0.5]),
    ],
)
def test_steps_worked_out_by_hand(text, steps):
    optimizer = parts.part_of("optimizer", text).transformation(0.5)
    x = jnp.array(10.0)
    state = optimizer.init(x)
    for step in steps:
        update, state = optimizer.update(jnp.array(4.0), state, x)
        np.testing.assert_allclose(update, step, rtol=1e-6)
        x = x + (step if "adamw" not in text else -1.0)


@pytest.mark.parametrize("learner", ["soft-q", "sac"])
def test_a_run_s_networks_move_by_the_optimisers_that_it_names(build, batch, learner):
    """With gradient descent one update is the rate times the gradient that is reported."""
    usual = {"objective": "mle", "learner": learner, "learning_rate": 0.25}
    agent, state, hyper = build(
        **usual,
        inner_learning_rate=0.125,
        model_optimizer="sgd",
        learner_optimizer="sgd",
        hidden=(4, 3),
        model_hidden=(5,),
        activation="tanh",
        model_activation="silu",
    )
    batches = [batch(i, continuous=learner == "sac") for i in range(agent.objective.minibatches)]
    after, info = jax.jit(agent.update)(state, batches, jax.random.key(2), hyper)
    for rate, name, before, now in (
        (0.25, "outer_gradient_norm", state.theta, after.theta),
        (0.125, "inner_gradient_norm", state.learner.w, after.learner.w),
    ):
        moved = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), before, now)
        length = sum(jax.tree.leaves(moved)) ** 0.5
        np.testing.assert_allclose(length, rate * info[name], rtol=1e-9)
        assert length > 0
    assert [layer.weight.shape[0] for layer in state.learner.w[0]][:2] == [4, 3]
    first = next(iter(state.theta.values()))
    assert (len(first), first[0].weight.shape[0], first[0].activation) == (2, 5, "silu")
