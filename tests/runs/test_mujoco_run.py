"""A run in a simulator that is killed and resumed is the run that wasn't."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from killed import killed_at

import omd
from omd.runs import files
from omd.runs import run as runs

SETTINGS: dict[str, Any] = {
    "env": "HalfCheetah-v5",
    "objective": "none",
    "distractors": 2,
    "hidden": 8,
    "batch_size": 8,
    "random_steps": 20,
    "evaluate_every": 30,
    "evaluate_episodes": 1,
    "evaluate_max_steps": 100,
    "steps": 90,
    "seeds": 2,
}


def test_a_killed_halfcheetah_resumes_to_the_same_bits(
    tmp_path: Any, checkpoint_each_chunk: Callable[[], None], quick_compilation: None
) -> None:
    config = omd.Config(**SETTINGS)
    whole = omd.train(config, out=tmp_path, name="whole", progress=False)
    checkpoint_each_chunk()
    with killed_at(60):
        runs.start(config, out=tmp_path, name="cut")
    cut = files.read_checkpoint(tmp_path / "cut" / "checkpoint.safetensors")
    assert cut["extra/elapsed"].tolist() == [30, 30]  # in the middle of an episode
    resumed = omd.train(resume=tmp_path / "cut", progress=False)
    a, b = (files.read_checkpoint(run.path / "checkpoint.safetensors") for run in (whole, resumed))
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    pd.testing.assert_frame_equal(resumed.metrics, whole.metrics, check_exact=True)


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
