"""Ways of running several lanes give the same lanes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import envs
from omd.config import Config
from omd.runs.folder import lanes_of
from omd.settings import resolve
from omd.training import strategies
from omd.training.program import Program

SMALL = Config(
    seeds=2,
    hidden=8,
    model_hidden=4,
    batch_size=8,
    random_steps=20,
    steps=60,
    distractors=1,
    evaluate_episodes=2,
    evaluate_max_steps=20,
    precision="float64",
)


def test_under_vmap_a_function_of_lanes_is_called_with_all_of_them():
    shapes = []

    def double(pair, scale):
        shapes.append((pair["a"].shape, scale.shape))
        return {"b": pair["a"] * scale[:, None]}

    one = strategies.alone(double)
    np.testing.assert_array_equal(one({"a": jnp.arange(2)}, jnp.int32(3))["b"], [0, 3])
    assert shapes.pop() == ((1, 2), (1,))
    lanes = jnp.arange(6).reshape(3, 2)
    many = jax.vmap(one, ({"a": 0}, None))({"a": lanes}, jnp.int32(2))
    np.testing.assert_array_equal(many["b"], 2 * lanes)
    assert shapes.pop() == ((3, 2), (3,))


@pytest.mark.parametrize("env", ["CartPole-v1", "gymnasium:CartPole-v1"])
def test_each_way_gives_the_same_lanes(env, monkeypatch):
    """Also those that this machine wouldn't choose: lanes in one vmapped program, as on a GPU."""
    asked = dataclasses.replace(SMALL, env=env)
    found = []
    with jax.enable_x64(True):
        for way in ("chosen", "vmapped"):
            if way == "vmapped":
                monkeypatch.setattr(strategies, "choose", lambda **_: strategies.VMAPPED)
            made = [
                envs.make(env, lanes=n, dtype="float64", distractors=1)
                for n in (2, 2 * asked.evaluate_episodes)
            ]
            settings = resolve(asked, made[0].spec)
            program = Program(settings, *made, 2, settings.model_hidden)
            state = program.place(program.fresh(lanes_of(settings)))
            state, _ = program.advance(state, 20, learn=False)
            state, metrics = program.advance(state, 30, learn=True)
            found.append((state.replay, state.agent, metrics, program.evaluate(state)))
        for one, other in zip(*map(jax.tree.leaves, found), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
