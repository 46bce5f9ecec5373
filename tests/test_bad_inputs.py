"""Bad inputs at the command line and in Python, drawn by kind: each one sentence, and nothing
written. `OMD_LONG=1` draws 600 and prints a table by kind, another `OMD_SEED` others.
"""

import collections
import itertools
import json
import os
import shutil
import sys

import bad_inputs
import jax
import pytest

import omd
from omd import cli
from omd.runs import folder
from omd.runs import run as runs

LONG = bool(os.environ.get("OMD_LONG"))
SEED = int(os.environ.get("OMD_SEED", "0"))
COMMANDS, CALLS = (440, 160) if LONG else (75, 25)
SMALL = {
    "hidden": 4,
    "model_hidden": 4,
    "batch_size": 8,
    "random_steps": 20,
    "evaluate_every": 20,
    "evaluate_episodes": 1,
    "evaluate_max_steps": 20,
    "steps": 40,
    "objective": "none",
}
LONGEST = 700


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a run."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    out = tmp_path_factory.mktemp("bad")
    runs.start(omd.Config(**SMALL), out=out, name=bad_inputs.RUN)
    yield out
    jax.config.update("jax_disable_most_optimizations", before)


def tree(path):
    return {
        str(p): p.stat().st_mtime_ns
        for p in path.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }


def wrong(command, place, capsys):
    """What is wrong with the answer to a bad command line; empty where nothing is."""
    made = []
    for name, content in command.files:
        path = place / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        made.append(path if path.parent == place else path.parent)
    before, code = tree(place), None
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code
    except Accepted:
        return "taken for good input"
    except Exception as error:
        return f"traceback: {error!r}"
    finally:
        out, err = capsys.readouterr()
        changed = tree(place).keys() ^ before.keys()
        for path in made:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        for module, _ in bad_inputs.MODULES:
            sys.modules.pop(module.removesuffix(".py"), None)
    if code != 2 or out or err.count("\n") != 1:
        return f"exit code {code}, printed {out[:100]!r}, said {err[:300]!r}"
    if len(err) > LONGEST:
        return f"{len(err)} characters: {err[:100]!r}"
    return f"{changed} appeared or went" if changed else ""


class Accepted(BaseException):
    """A run would begin now."""


def accept(*_, **__):
    raise Accepted


def probed(config):
    return folder.make_env(config, lanes=1).spec


@pytest.mark.stand_ins
def test_bad_command_lines_are_one_sentence(base, monkeypatch, capsys):
    monkeypatch.chdir(base)
    monkeypatch.setattr(runs, "_train", accept)
    monkeypatch.setattr("omd.sweeps.engines.local.plan", accept)
    # in this process, not in one of its own
    monkeypatch.setattr("omd.sweeps.spec.spec_of", probed)
    config = json.loads((base / bad_inputs.RUN / "config.json").read_text())
    table, bad = collections.Counter(), []
    for command in itertools.islice(bad_inputs.commands(SEED, config), COMMANDS):
        monkeypatch.setattr(sys, "argv", ["omd", *command.words])
        table[command.kind] += 1
        if words := wrong(command, base, capsys):
            shown = [word[:80] for word in command.words]
            bad.append(f"{command.kind}: {shown} {[c[:80] for _, c in command.files]}: {words}")
            with capsys.disabled():
                print(bad[-1], flush=True)
    report(table, bad)


@pytest.mark.stand_ins
def test_bad_calls_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "_train", accept)
    monkeypatch.setattr("omd.sweeps.engines.local.plan", accept)
    table, bad = collections.Counter(), []
    for call in itertools.islice(bad_inputs.calls(SEED), CALLS):
        table[call.kind] += 1
        words = ""
        try:
            call.call()
            words = "taken for good input"
        except omd.InputError as error:
            said = str(error)
            if "\n" in said or not 15 < len(said) < LONGEST:
                words = f"{len(said)} characters: {said[:300]!r}"
        except Accepted:
            words = "taken for good input"
        except Exception as error:
            words = f"{type(error).__name__}: {str(error)[:300]}"
        if words:
            bad.append(f"{call.kind}: {call.name}: {words}")
    assert not list(tmp_path.iterdir())
    report(table, bad)


def report(table, bad):
    print(*(f"{count:5}  {kind}" for kind, count in table.items()), sep="\n")
    assert not bad, "\n".join([f"{len(bad)} of {table.total()}", *bad])
