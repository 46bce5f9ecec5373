import jax
import numpy as np
import pandas as pd
import pytest

from omd.config import Config
from omd.runs import files, folder

SMALL = {
    "hidden": 8,
    "model_hidden": 8,
    "batch_size": 16,
    "random_steps": 20,
    "steps": 400,
    "evaluate_every": 100,
    "evaluate_episodes": 1,
    "seeds": 2,
}


@pytest.mark.parametrize(
    ("settings", "used"),
    [
        ({}, 30),
        ({"distractors": 3}, 31),
        ({"distractors": 3, "replay_capacity": 25}, 26),
        ({"replay_capacity": 25}, 25),
    ],
)
def test_a_checkpoint_holds_the_used_part_of_the_buffer_and_brings_all_back(
    tmp_path, settings, used
):
    program = folder.program_of(Config(**{**SMALL, **settings}))
    config, lanes = program.config, folder.lanes_of(program.config)
    state = program.place(program.fresh(lanes))
    state, _ = program.advance(state, 30, learn=False)
    folder.save(program, state, tmp_path, pd.DataFrame({"lane": [0]}))
    stored = files.read_checkpoint(tmp_path / folder.CHECKPOINT)
    assert stored["state/replay/rows"].shape[1] == used
    assert stored["state/replay/distractors"].shape == (2, used, config.distractors)
    back = folder.restore(program, lanes, tmp_path)
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(back), strict=True):
        if jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_array_equal(one, other)
