"""Every file of a run and of a sweep, damaged in every way, read by every command: one sentence,
the answer of the undamaged folder, or an answer with a sentence on what is missing. Never a
traceback, never another answer without a word.

With OMD_LONG=1 only; it prints a table. Full disks are tried always.
"""

import collections
import functools
import hashlib
import io
import itertools
import os
import pathlib
import pickle
import resource
import shutil
import sys
import time
import warnings

import jax
import numpy as np
import pandas as pd
import pytest
from killed import killed_at

import omd
from omd import cli
from omd.figures import figure_compare as compare
from omd.figures import learning_curve
from omd.figures.paper import figure_8
from omd.reports import film, page
from omd.runs import checkpoint, files, folder
from omd.runs import run as runs
from omd.sweeps import driver, group, plan, spec, worker
from omd.sweeps.engines import local
from omd.sweeps.store import Sweep

LONG = bool(os.environ.get("OMD_LONG"))
LONGEST = 20
"""Seconds of an answer, on a machine that does other things too."""
SETTINGS = {
    "hidden": 4,
    "model_hidden": 4,
    "batch_size": 8,
    "random_steps": 20,
    "evaluate_every": 20,
    "evaluate_episodes": 1,
    "evaluate_max_steps": 20,
    "steps": 80,
}


@pytest.fixture(scope="module")
def patch():
    """Programs of one configuration are the same one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "program_of", functools.cache(folder.program_of))
        patch.setattr(group, "_cached", folder.program_of)
        before = jax.config.values["jax_disable_most_optimizations"]
        jax.config.update("jax_disable_most_optimizations", True)
        patch.setattr(checkpoint, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(checkpoint, "CHECKPOINT_SHARE", np.inf)
        yield patch
        jax.config.update("jax_disable_most_optimizations", before)


def trained(out):
    """A run of 80 steps killed at 60, with checkpoints of steps 40 and 20."""
    with killed_at(60):
        runs.start(omd.Config(**SETTINGS, objective="none"), out=out, name="run")
    folder.files.write_json(out / "run" / folder.DIVERGED, {"0": [0, "in training, step 3"]})


def swept(out):
    """A sweep of two groups: one is finished, one was killed at step 60 and then failed."""
    wanted = spec.read({"base": SETTINGS, "grid": [{"objective": "mle", "seeds": 2}]})
    groups = plan.groups(wanted.lanes, plan.Machine("cpu", 1, 1e9), size=1)
    sweep = Sweep.create(out / "sweep", wanted, groups, {})
    group.run(sweep, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group, "PROGRESS_SECONDS", 0.0)
        with killed_at(60):
            group.run(sweep, 1)
    sweep.fail(sweep.groups[1], "the worker died")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, patch):
    """A folder with a run and a sweep, and commands that compute nothing: they say what they have
    read."""
    base = tmp_path_factory.mktemp("damage")
    trained(base / "whole")
    swept(base / "whole")

    def signature(*things):
        digest = hashlib.sha256()
        for x in jax.tree.leaves(things):
            keys = isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
            digest.update(np.asarray(jax.random.key_data(x) if keys else x).tobytes())
        return digest.hexdigest()

    def resumed(program, state, config, path, rows, *_):
        print("goes on with", signature(state), rows)
        return runs.Run(path, config, pd.DataFrame(rows))

    class Once:
        """For one pass over the groups: those that are gone on with here never finish."""

        requested = False

        def __enter__(self):
            Once.requested = False
            return Once

        def __exit__(self, *_):
            pass

    def in_turn(sweep, *_):
        Once.requested = True
        for one in sweep.groups:
            outcome = worker.run(sweep.path, one.number)
            print("group", one.number, outcome)
            outcome.settle(sweep, one)

    def gone_on(program, state, config, labels, path, rows, *_):
        print("goes on with", signature(state), rows)
        return state, rows

    def saved(figure, out, name, rows, record):
        out.mkdir(exist_ok=True)
        print(name, *rows)
        return []

    states, fresh = {}, runs.Program.fresh

    def once(self, lanes):
        if (key := (self, tuple(lanes))) not in states:
            with jax.ensure_compile_time_eval():  # where only shapes are asked for
                states[key] = fresh(self, lanes)
        return states[key]

    patch.setattr(runs.Program, "fresh", once)
    patch.setattr(runs, "_train", resumed)

    def evaluated(self, state):
        number = int(signature(state)[:8], 16)
        return {"episode_return": np.full(1, number), "episode_length": np.ones(1)}

    def played(run, *_, **__):
        print(signature(run.state))
        return [np.zeros((2, 2, 3), "uint8")], 30.0

    patch.setattr(runs.Program, "evaluate", evaluated)
    patch.setattr(film, "_stage", lambda *_: film._Stage(runs.Program, played, 30.0))
    patch.setattr(runs.Program, "close", lambda: None, raising=False)
    patch.setattr(film, "_play", played)
    patch.setattr(learning_curve, "draw", lambda *_: None)
    patch.setattr(learning_curve, "picture", lambda frame, _: frame.to_csv().encode())
    patch.setattr(page.overview, "draw", lambda frame, _: frame.to_csv().encode())
    for module in (figure_8, compare):
        patch.setattr(module, "_draw", lambda *_: None)
        patch.setattr(module, "save", saved)
    patch.setattr(compare, "save_table", lambda frame, path: path)
    patch.setattr(
        compare.aggregates,
        "scores",
        lambda lanes: ({"mle": [lanes["final_return"].to_numpy()]}, {}),
    )
    patch.setattr(compare.aggregates, "marl_eval", lambda *_: {})
    patch.setattr(compare.aggregates, "RESAMPLES", 10)
    patch.setattr(worker, "_take_one_device", lambda: None)
    patch.setattr(group.session, "train", gone_on)
    patch.setattr(local, "run", in_turn)
    patch.setattr(driver, "Stop", Once)
    patch.setattr(driver, "plan", lambda *_, **__: (plan.Machine("cpu", 1, 1e9), (), None, {}))
    patch.setattr("omd.use_cores", lambda *_: None, raising=False)
    patch.setattr("time.time", lambda: 0.0)
    return base / "whole"


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(share):
    def damage(path):
        content = bytearray(path.read_bytes())
        content[int(share * (len(content) - 1))] ^= 4
        path.write_bytes(content)

    return damage


def content(data):
    return lambda path: path.write_bytes(data)


def a_folder(path):
    path.unlink()
    path.mkdir()


def other_version(path):
    """What a program of another time may have written there."""
    if path.suffix == ".parquet":
        files.write_frame(path, pd.DataFrame({"version": [99]}))
    elif path.suffix == ".safetensors":
        files.save_checkpoint(path, {"version": np.ones(3)}, {})
    else:
        files.write_json(path, {"version": 99})


class Trap:
    """Unpickling one makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("trapped",)


DAMAGES = {
    "deleted": os.unlink,
    "empty": content(b""),
    "cut": cut,
    "flipped at 2 %": flip(0.02),
    "flipped at 50 %": flip(0.5),
    "flipped at 99 %": flip(0.99),
    "{}": content(b"{}"),
    "[]": content(b"[]"),
    "nested": content(b"[" * 100_000),
    "other version": other_version,
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(1000)),
    "a pickle that runs code": content(pickle.dumps(Trap())),
    "a folder": a_folder,
}
COMMANDS = {
    "run": {
        "train --resume": ["train", "--resume", "run", "--quiet"],
        "evaluate": ["evaluate", "run", "--episodes", "1"],
        "watch": ["watch", "run", "--out", "film.gif", "--quiet"],
        "list": ["list", "run", "--out", "."],
        "report": ["report", "run", "--out", "page.html"],
        "figure 8": ["figure", "8", "--run", "run"],
    },
    "sweep": {
        "sweep": ["sweep", "sweep", "--quiet"],
        "report": ["report", "sweep", "--out", "page.html"],
        "figure compare": ["figure", "compare", "--sweep", "sweep"],
    },
}


def tree(path):
    return {
        str(p.relative_to(path)): p.read_bytes()
        for p in path.rglob("*")
        if p.is_file() and p.name != ".lock"
    }


def answer(words):
    """Exit code, what a command printed and wrote as a page, what it said on standard error, and
    its warnings, which pytest keeps from there."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        patch.setattr(sys, "argv", ["omd", *words])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
    page = pathlib.Path("page.html")
    made = page.read_text("utf-8") if page.exists() else ""
    return code, out.getvalue() + made, err.getvalue(), " ".join(str(w.message) for w in told)


def fault(right, before, where, file):
    """What is wrong with an answer about a damaged file; empty where nothing is."""
    code, out, err, told = where
    named = [os.path.basename(file), os.path.dirname(file) or file]
    if code == 2:
        if out or err.count("\n") != 1 or len(err) > 600:
            return f"not one sentence: {out[:100]} {err[:600]}"
        if not any(name in err + told for name in named):
            return f"doesn't say which file: {err[:300]}"
        now = tree(before[0])
        changed = [n for n in now | before[1] if now.get(n) != before[1].get(n)]
        return f"{changed} changed" if changed else ""
    if (code, out) == right[:2]:
        return ""
    if any(name in out + err + told for name in named):
        return ""
    return f"another answer without a word: {out[:200]} {err[:200]}"


UNSEEN = {
    ("run", "diverged.json", "train --resume"): "written only where a simulator fails",
    (
        "sweep",
        "groups/0000/done.json",
        "report",
    ): "the group is then not finished, and so told",
    ("sweep", "groups/0000/done.json", "figure compare"): "the same",
    ("sweep", "groups/0001/error.json", "report"): "the group counts as not begun again",
}
"""Files whose absence is a state that a folder may have: file, command, why."""


def uses(whole):
    every: list[tuple[str, str, str, str]] = []
    for kind in COMMANDS:
        names = sorted(n for n in tree(whole / kind) if not n.endswith(".lock"))
        every += itertools.product([kind], names, DAMAGES, COMMANDS[kind])
    return [u for u in every if u[2] != "deleted" or (u[0], u[1], u[3]) not in UNSEEN]


@pytest.mark.skipif(not LONG, reason="takes minutes: make attacks")
@pytest.mark.stand_ins
def test_damaged_files_never_end_in_a_traceback_or_another_answer(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def fresh():
        for path in tmp_path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for kind in COMMANDS:
            shutil.copytree(whole / kind, tmp_path / kind)

    right = {}
    for kind, commands in COMMANDS.items():
        for name, words in commands.items():
            fresh()
            right[kind, name] = answer(words)
            assert right[kind, name][0] in (0, 1, 130), right[kind, name]
    table, bad = collections.Counter(), []
    for kind, file, damage, command in uses(whole):
        fresh()
        DAMAGES[damage](tmp_path / kind / file)
        before, begin = (tmp_path, tree(tmp_path)), time.monotonic()
        try:
            words = fault(right[kind, command], before, answer(COMMANDS[kind][command]), file)
        except Exception as error:
            trace = error.__traceback__
            while trace.tb_next:
                trace = trace.tb_next
            words = f"traceback: {error!r} at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        if not words and time.monotonic() - begin > LONGEST:
            words = f"took {time.monotonic() - begin:.0f} s"
        table[f"{kind}: {command}"] += 1
        assert not (tmp_path / "trapped").exists()
        if words:
            bad.append(f"{command} with {kind}/{file} {damage}: {words}")
    print(*(f"{count:4}  {name}" for name, count in table.items()), sep="\n")
    assert not bad, "\n".join([f"{len(bad)} of {table.total()}", *bad])


WRITING = {
    "train": ["train", "CartPole-v1", "--out", "new", "--quiet"],
    "train --resume": COMMANDS["run"]["train --resume"],
    "watch": COMMANDS["run"]["watch"],
    "report of a run": COMMANDS["run"]["report"],
    "sweep": COMMANDS["sweep"]["sweep"],
    "sweep, new": ["sweep", "--tau", "0.1", "--env", "CartPole-v1", "--out", "new", "--quiet"],
    "report of a sweep": COMMANDS["sweep"]["report"],
    "figure": ["figure", "6", "--budget", "smoke", "--out", "new"],
}


@pytest.mark.stand_ins
@pytest.mark.parametrize("name", WRITING)
def test_a_full_disk_is_one_sentence_and_keeps_what_was_there(whole, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for kind in COMMANDS:
        shutil.copytree(whole / kind, tmp_path / kind)
    (tmp_path / "sweep" / "groups" / "0001" / "error.json").unlink()  # it is tried anew
    before = tree(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # bytes of a file
        code, out, err, _ = answer(WRITING[name])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (code, out.count("Traceback"), err.count("\n")) == (2, 0, 1), (out, err)
    assert "File too large" in err
    assert tree(tmp_path) == before
