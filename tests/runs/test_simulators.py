"""A run in a simulator that is killed and resumed is the run that wasn't."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

import omd
from omd.parts import text_of
from omd.runs import files

SETTINGS: dict[str, Any] = {
    "hidden": 8,
    "model_hidden": 8,
    "batch_size": 8,
    "random_steps": 30,
    "evaluate_every": 30,
    "evaluate_episodes": 1,
    "evaluate_max_steps": 100,
    "steps": 120,
    "seeds": 2,
}


@pytest.fixture
def killed_and_resumed(tmp_path, kill_at):
    """A function that trains, goes on with what a process killed at step 90 leaves, compares
    the two bit by bit, and gives the run that nothing happened to."""

    def train(**settings):
        config = omd.Config(**SETTINGS, **settings)
        at_90 = kill_at(90, tmp_path / "whole")
        whole = omd.train(config, out=tmp_path, name="whole", progress=False, callbacks=[at_90])
        assert omd.load(tmp_path / "cut").step == 60
        cut = files.read_checkpoint(tmp_path / "cut" / "checkpoint.safetensors")
        # the settings of a new run, unresolved, are those of the one to go on with
        resumed = omd.train(config, resume=tmp_path / "cut", progress=False)
        a, b = (
            files.read_checkpoint(run.path / "checkpoint.safetensors") for run in (whole, resumed)
        )
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
        pd.testing.assert_frame_equal(resumed.metrics, whole.metrics, check_exact=True)
        return whole, cut

    return train


def test_cartpole_of_gymnasium(killed_and_resumed):
    killed_and_resumed(env="gymnasium:CartPole-v1", objective="mle")


def test_halfcheetah_in_the_middle_of_an_episode(killed_and_resumed):
    _, cut = killed_and_resumed(env="HalfCheetah-v5", objective="none", distractors=2)
    assert cut["extra/elapsed"].tolist() == [60, 60]


def test_sac_resumes_and_acts_in_range(killed_and_resumed):
    run, _ = killed_and_resumed(env="gymnasium:Pendulum-v1")
    assert text_of(run.config.learner) == "sac"
    assert run.config.tau == 0.005
    assert json.loads((run.path / "config.json").read_text())["tau"] == 0.005
    actions = run.act(np.array([[1.0, 0.0, 0.5], [0.0, 1.0, -0.5]]), seed=1)
    assert actions.shape == (2, 1)
    assert np.abs(actions).max() <= 2
    assert run.act(np.array([1.0, 0.0, 0.5]), seed=1) == pytest.approx(actions[0])


@pytest.mark.as_shipped
def test_a_chunk_is_its_steps_one_by_one(run_script) -> None:
    """Where the derivative of a minimum looked for the entries that equal it, XLA computed them
    twice in a chunk of several steps, on one thread, and the gradient of θ was 0/0 at the sixth."""
    run_script(
        """
        import jax, numpy as np, omd
        from omd.runs import folder

        config = omd.Config(
            env="HalfCheetah-v5", objective="omd:constraint_target=moved",
            model_output="change", hidden=64,
            steps=400, random_steps=300, evaluate_episodes=1, inner_learning_rate=1e-3,
        )

        def after(chunks):
            program = folder.program_of(config)
            state = program.place(program.fresh([program.config]))
            state, _ = program.advance(state, 300, learn=False)
            for steps in chunks:
                state, metrics = program.advance(state, steps, learn=True)
                assert metrics["finite"].all()
            return state.agent.theta, state.agent.learner.w

        for a, b in zip(*map(jax.tree.leaves, (after([12]), after([1] * 12)))):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        """,
        NPROC="1",
    )
