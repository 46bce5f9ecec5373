"""A simulator that stops making sense ends its lane, and the run tells where."""

from __future__ import annotations

import re
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import pytest

import omd
from omd.reports import tables as report
from omd.runs import files

SETTINGS: dict[str, Any] = {
    "env": "Sick-v0",
    "hidden": 4,
    "model_hidden": 4,
    "batch_size": 8,
    "random_steps": 40,
    "evaluate_every": 40,
    "evaluate_episodes": 1,
    "steps": 200,
    "seeds": 3,
}


class Sick(gymnasium.Env):
    """In some episodes the fourth reward is infinite."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        assert seed is not None
        self.sick, self.time = seed % 97 == 0, 0
        return self.np_random.normal(size=2), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        reward = np.inf if self.sick and self.time == 4 else 1.0
        return self.np_random.normal(size=2), reward, self.time == 6, False, {}


@pytest.fixture(scope="module", autouse=True)
def sick():
    gymnasium.register(id="Sick-v0", entry_point=Sick)
    yield
    del gymnasium.registry["Sick-v0"]


def test_the_lane_ends_the_others_go_on_and_resuming_gives_the_same(
    tmp_path, kill_at, capsys
) -> None:
    at_160 = kill_at(160, tmp_path / "whole")
    config = omd.Config(**SETTINGS)
    whole = omd.train(config, out=tmp_path, name="whole", progress=False, callbacks=[at_160])
    told, when = whole.divergences(), whole.diverged()
    assert 0 < len(told) < 3
    assert set(told) == set(when)
    where = r"in (training|an evaluation), step (\d+), action \[[01]\]: the reward is inf"
    for seed, sentence in told.items():
        match = re.fullmatch(where, sentence)
        assert match
        if match[1] == "training":
            assert int(match[2]) <= when[seed] < int(match[2]) + 40
    sound = whole.metrics[~whole.metrics["seed"].isin(list(told))]
    assert np.isfinite(sound["episode_return"]).all()
    assert np.isfinite(sound[sound["step"] > 40]["model_mse"]).all()
    report.show(whole)
    printed = capsys.readouterr().out
    for seed, sentence in told.items():
        assert f"seed {seed}: {sentence}" in printed

    resumed = omd.train(resume=tmp_path / "cut", progress=False)
    pd.testing.assert_frame_equal(resumed.metrics, whole.metrics, check_exact=True)
    assert resumed.divergences() == told
    a, b = (files.read_checkpoint(run.path / "checkpoint.safetensors") for run in (whole, resumed))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
