"""Signs that training goes wrong, against cases worked out by hand."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from omd import agents
from omd.agents import networks
from omd.callbacks import Evaluation
from omd.runs import symptoms
from omd.runs.progress import describe

SMALL = {"temperature": 0.1, "discount": 0.9, "hidden": 4, "model_hidden": 3}


def constant(mlp, value):
    """A network that gives `value` everywhere, its hidden units dead."""
    *hidden, last = mlp
    hidden = [eqx.tree_at(lambda layer: layer.bias, x, x.bias - 1e6) for x in hidden]
    last = jax.tree.map(jnp.zeros_like, last)
    value = jnp.broadcast_to(jnp.asarray(value, last.bias.dtype), last.bias.shape)
    return (*hidden, eqx.tree_at(lambda layer: layer.bias, last, value))


def test_dead_units_are_counted_without_those_that_pad():
    mlp = networks.orthogonal_mlp(jax.random.key(0), 2, 1, 3, jnp.float64, 5)
    weight = jnp.zeros((5, 2)).at[0, 0].set(1.0).at[1, 0].set(-1.0).at[2, 1].set(1.0)
    first = eqx.tree_at(lambda layer: layer.weight, mlp[0], weight)
    second = jnp.zeros((5, 5)).at[0, 0].set(1.0).at[1, 1].set(1.0).at[2, 2].set(-1.0)
    mlp = (first, eqx.tree_at(lambda layer: layer.weight, mlp[1], second), mlp[2])
    x = jnp.asarray([[1.0, 2.0, 0.5], [-1.0, 3.0, -2.0]])  # the first number is never negative
    assert networks.dead_units(mlp, x).tolist() == [[1, 3], [2, 3]]


def with_critics(state, *values):
    """The state with critics that give these values everywhere."""
    w = tuple(constant(critic, x) for critic, x in zip(state.learner.w, values, strict=True))
    return state._replace(learner=state.learner._replace(w=w))


def test_signs_of_soft_q_learning(build, batch):
    (agent, state, hyper), seen = build(**SMALL), batch(0)
    signs = jax.jit(lambda state: agents.signs(agent, state, seen, hyper, jnp.asarray(1.0)))
    # 1.1 (1 + 0.1 log 2) / 0.1 = 11.76
    for value, beyond in ((10.0, 0), (-11.7, 0), (11.8, 1), (math.nan, 1)):
        found = signs(with_critics(state, value, 0.0))
        assert float(found["q_beyond"]) == beyond
    # two critics' layers of four units, and the model's
    dead_of_model = int(agent.model.dead_units(state.theta, seen)[:, 0].sum())
    assert float(found["dead_units"]) == 16 + dead_of_model
    assert float(found["dead_share"]) == 1
    assert float(signs(with_critics(state, 0.0, 0.0))["policy_saturation"]) == 1
    taken = np.asarray(agent.learner.greedy(state.learner, seen.observation))
    assert 0 < taken.mean() < 1
    assert float(signs(state)["policy_saturation"]) == max(taken.mean(), 1 - taken.mean())


def test_signs_of_sac(build, batch):
    (agent, state, hyper), seen = build(**SMALL, learner="sac"), batch(0, continuous=True)
    signs = jax.jit(lambda state: agents.signs(agent, state, seen, hyper, jnp.asarray(16.0)))
    target = state.learner.target
    # tanh 2.6 = 0.989, tanh 2.7 = 0.991
    for means, share in (((0.0, 2.6), 0), ((2.7, -1), 0.5), ((-9, 9), 1)):
        actor = constant(target.actor, (*means, 0.0, 0.0))
        learner = state.learner._replace(target=target._replace(actor=actor))
        assert float(signs(state._replace(learner=learner))["policy_saturation"]) == share
    # 1.1 (16 + 0.1 · 2 log 2) / 0.1 = 177.5
    for value, beyond in ((177, 0), (-178, 1)):
        assert float(signs(with_critics(state, value, value))["q_beyond"]) == beyond


def test_an_ensemble_counts_the_units_of_all_members(build, batch):
    agent, state, _ = build(**SMALL, objective="mle", model="ensemble:members=3")
    counts = agent.model.dead_units(state.theta, batch(0))
    assert counts.shape == (6, 2)
    assert counts[:, 1].tolist() == [3] * 6


def test_symptoms_are_counted_in_progress_and_told_with_a_hint():
    fine = {
        "episode_return": 1.0,
        "inner_loss": 0.1,
        "q_beyond": 0.0,
        "policy_saturation": 0.5,
        "dead_share": 0.2,
        "solve_failed": math.nan,
        "diverged": False,
    }
    sick = fine | {"q_beyond": 0.3, "solve_failed": 0.02}
    first = {"episode_return": 1.0, "policy_saturation": 1.0, "dead_share": 0.75, "diverged": False}
    assert symptoms.in_short([fine, fine]) == []
    line = describe(Evaluation(10, 20, [sick, fine], math.nan, lambda: None))
    assert line.endswith("1 with Q beyond all returns  1 with failed solves")
    rows = [(0, 0, first), (0, 10, sick), (0, 20, fine), (1, 0, fine)]
    frame = pd.DataFrame([{"seed": s, "step": t, **row} for s, t, row in rows])
    said = symptoms.sentences(frame)
    assert [one.partition(",")[0] for one in said] == ["seed 0: in 1 of 3 evaluations"] * 3
    assert "at step 10 for the last time, Q is above" in said[0]
    assert "up to 30%" in said[0]
    assert "75% of the units" in said[1]
    assert "missed their tolerance" in said[2]
    late = symptoms.sentences(frame, last=1)  # of seed 0 the one at step 20
    assert [one.partition(",")[0] for one in late] == ["seed 0: in 1 of 3 evaluations"]
    assert "75% of the units" in late[0]
    assert symptoms.sentences(frame.drop(columns=["q_beyond", "dead_share", "solve_failed"])) == []
