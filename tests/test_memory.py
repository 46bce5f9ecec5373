import subprocess
import sys

import jax
import pytest

from omd import cli, memory
from omd.config import Config
from omd.errors import InputError
from omd.runs import folder

LARGE = {
    "hidden": ["train", "CartPole-v1", "--hidden", "1000000000"],
    "model": ["train", "CartPole-v1", "--model-hidden", "1000000000"],
    "distractors": ["train", "CartPole-v1", "--distractors", "10000000"],
    "seeds": ["train", "CartPole-v1", "--seeds", "100000000"],
    "steps": ["train", "CartPole-v1", "--steps", "1000000000000"],
    "steps, small buffer": [
        "train",
        "CartPole-v1",
        "--steps",
        "1000000000000",
        "--replay-capacity",
        "1000",
    ],
    "batch": ["train", "CartPole-v1", "--batch-size", "1000000000000"],
    "seeds of a sweep": ["sweep", "--seeds", "1000000", "--dry-run"],
    "hidden of a sweep": ["sweep", "--hidden", "64,1000000000", "--dry-run"],
    "grid": ["sweep", "grid.toml", "--dry-run"],
    "seeds of a race": ["sweep", "race.toml"],
}
GRID = (
    "[[grid]]\n"
    + "\n".join(
        f"{name} = [{', '.join(str((i + 1) / 100) for i in range(10))}]"
        for name in (
            "tau",
            "temperature",
            "epsilon",
            "learning_rate",
            "inner_learning_rate",
            "discount",
        )
    )
    + "\nseeds = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n"
)
RACE = """[[grid]]
tau = [0.1, 0.2]
race = { over = ["tau"], first = 1000000000, keep = 2, more = 1 }
"""


@pytest.mark.parametrize("name", LARGE)
def test_what_is_too_large_is_one_sentence_before_memory_is_asked_for(
    name, tmp_path, monkeypatch, capsys
):
    (tmp_path / "grid.toml").write_text(GRID)
    (tmp_path / "race.toml").write_text(RACE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["omd", *LARGE[name]])
    monkeypatch.setattr("omd.sweeps.spec.spec_of", lambda config: pytest.fail("too late"))
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert " of memory" in err or " at most " in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["grid.toml", "race.toml"]


def test_the_answer_does_not_wait_for_jax():
    script = (
        "import sys\nfrom omd import memory\nfrom omd.config import Config\n"
        "try: memory.check(Config(hidden=10**9))\n"
        "except ValueError: print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"objective": "mle", "hidden": 64, "model_hidden": 3, "seeds": 3},
        {"distractors": 50, "replay_capacity": 2000, "precision": "float64"},
    ],
)
def test_the_least_is_no_more_than_the_state_and_of_its_order(settings):
    config = Config(steps=50_000, **settings)
    with folder.precision(config):
        program = folder.program_of(config)
        lanes = folder.lanes_of(program.config)
        right = folder.size_of(jax.eval_shape(lambda: program.fresh(lanes)))
    counted = ("the replay buffer", "the Q-network", "the model")
    count = sum(memory.least(config)[what][0] for what in counted)
    assert 0.2 * right < count <= right


def test_a_state_larger_than_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 1e9)
    memory.check_state(0.9e9)
    with pytest.raises(InputError, match=r"need 1.1 GB of memory, and 1 GB is free"):
        memory.check_state(1.1e9)
