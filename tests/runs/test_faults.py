"""Damaged, missing, half-written files of a run, and folders that can't be written: one sentence
each, and the last good state stays."""

import errno
import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from killed import killed_at

import omd
from omd.runs import files, folder
from omd.runs import run as runs

SETTINGS = {
    "hidden": 4,
    "model_hidden": 4,
    "batch_size": 8,
    "random_steps": 20,
    "evaluate_every": 20,
    "evaluate_episodes": 1,
    "evaluate_max_steps": 20,
    "steps": 80,
    "objective": "none",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return runs.start(omd.Config(**SETTINGS), out=tmp_path_factory.mktemp("runs"), name="whole")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of 80 steps killed at 60, with checkpoints of steps 40 and 20."""
    out = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("omd.runs.checkpoint.CHECKPOINT_SECONDS", 0.0)
        patch.setattr("omd.runs.checkpoint.CHECKPOINT_SHARE", np.inf)
        with killed_at(60):
            runs.start(omd.Config(**SETTINGS), out=out, name="run")
    return out / "run"


@pytest.fixture
def copy(stopped, tmp_path):
    return shutil.copytree(stopped, tmp_path / "run")


def assert_as(run, whole):
    a, b = (files.read_checkpoint(one.path / folder.CHECKPOINT) for one in (run, whole))
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    pd.testing.assert_frame_equal(omd.load(run.path).metrics, whole.metrics, check_exact=True)


def flip(path, place, mask=1):
    content = bytearray(path.read_bytes())
    content[place] ^= mask
    path.write_bytes(content)


def places(size, count):
    return np.unique(np.linspace(0, size - 1, count).astype(int))


def test_a_flipped_byte_is_found_or_changes_nothing(stopped, tmp_path):
    for path in (folder.CHECKPOINT, folder.METRICS, "config.json", runs.PROVENANCE):
        copy = tmp_path / path
        read = {".json": files.read_json, ".parquet": files.read_frame}.get(
            copy.suffix, files.read_checkpoint
        )
        right = read(stopped / path)
        content, found = (stopped / path).read_bytes(), 0
        tried = places(len(content), 150)
        for place in tried:
            shutil.copy(stopped / path, copy)
            flip(copy, place, 0x04)
            try:
                assert_equal(read(copy), right)
            except files.FileError:
                found += 1
        assert found > len(tried) / 3, path  # Parquet has much besides the numbers


def assert_equal(one, other):
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    elif any(isinstance(value, np.ndarray) for value in one.values()):
        np.testing.assert_equal(one, other)
    else:  # a name that is altered is none that anybody reads
        assert {k: v for k, v in one.items() if k in other} == other


def test_all_numbers_of_a_checkpoint_are_covered(stopped, tmp_path):
    arrays = files.read_checkpoint(stopped / folder.CHECKPOINT)
    size = sum(array.nbytes for array in arrays.values())
    copy = tmp_path / folder.CHECKPOINT
    for place in places(size, 60) + 1:
        shutil.copy(stopped / folder.CHECKPOINT, copy)
        flip(copy, -place)
        with pytest.raises(files.FileError, match="checksum"):
            files.read_checkpoint(copy)


def test_the_checkpoint_before_a_damaged_one_is_used(copy):
    assert (copy / folder.PREVIOUS).exists()
    flip(copy / folder.CHECKPOINT, -10)
    for mend in (False, True):
        with pytest.warns(UserWarning, match="checksum.*before it, of step 20, is used"):
            assert folder.step_of(folder.last_good(copy, mend=mend)) == 20
    assert folder.step_of(folder.last_good(copy)) == 20
    assert not (copy / folder.PREVIOUS).exists()


def test_a_kill_between_the_two_writes_of_a_save_repeats_no_rows(whole, copy):
    shutil.copy(whole.path / folder.METRICS, copy)  # its rows of steps 60 and 80 come too early
    (copy / ".metrics.parquet.abc.tmp").write_text("of a save that was killed")
    assert omd.load(copy).step == 40
    assert_as(runs.resume(copy), whole)
    assert not list(copy.glob(".*.tmp"))


@pytest.mark.stand_ins
def test_a_kill_between_the_two_writes_of_the_first_save_repeats_no_rows(copy, monkeypatch):
    for name in (folder.CHECKPOINT, folder.PREVIOUS):
        (copy / name).unlink()
    files.write_frame(copy / folder.METRICS, files.read_frame(copy / folder.METRICS).head(1))
    monkeypatch.setattr(runs, "_train", lambda program, state, config, path, rows, *_: rows)
    assert runs.resume(copy) == []


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def text(words):
    return lambda path: path.write_text(words)


DAMAGE = {
    "metrics deleted": (folder.METRICS, os.unlink),
    "metrics cut": (folder.METRICS, cut),
    "metrics emptied": (folder.METRICS, text("")),
    "metrics without rows": (
        folder.METRICS,
        lambda path: files.write_frame(path, files.read_frame(path).head(0)),
    ),
    "metrics of something else": (
        folder.METRICS,
        lambda path: files.write_frame(path, pd.DataFrame({"a": [1]})),
    ),
    "provenance {}": (runs.PROVENANCE, text("{}")),
    "provenance []": (runs.PROVENANCE, text("[]")),
    "provenance deleted": (runs.PROVENANCE, os.unlink),
    "config nested": ("config.json", text("[" * 100_000)),
    "config a list": ("config.json", text("[]")),
    "config of numbers": ("config.json", text('{"version": 2, "objective": 3, "seeds": {}}')),
    "checkpoint a folder": (folder.CHECKPOINT, lambda path: (path.unlink(), path.mkdir())),
    "checkpoint cut": (folder.CHECKPOINT, cut),
    "checkpoint emptied": (folder.CHECKPOINT, text("")),
    "checkpoint deleted": (folder.CHECKPOINT, os.unlink),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_and_missing_files_are_one_sentence(copy, name):
    file, damage = DAMAGE[name]
    (copy / folder.PREVIOUS).unlink()
    damage(copy / file)
    before = {p.name: p.read_bytes() for p in copy.iterdir() if p.is_file()}
    with pytest.raises(omd.InputError) as caught:
        runs.resume(copy)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    after = {p.name: p.read_bytes() for p in copy.iterdir() if p.is_file()}
    assert {k: v for k, v in after.items() if k != ".lock"} == {
        k: v for k, v in before.items() if k != ".lock"
    }


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_folder_that_cannot_be_written_keeps_the_last_good_state(copy, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    before = {p.name: p.read_bytes() for p in copy.iterdir()}
    monkeypatch.setattr(files, "save_file", refuse)
    with pytest.raises(files.WriteError, match=os.strerror(number)):
        files.save_checkpoint(copy / folder.CHECKPOINT, {}, {}, previous=copy / folder.PREVIOUS)
    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    with pytest.raises(files.WriteError, match=os.strerror(number)):
        runs.resume(copy)
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == before


def test_one_folder_has_one_process(copy):
    with folder.claimed(copy), pytest.raises(omd.InputError, match="by another process"):
        runs.resume(copy)


def test_files_of_older_versions_have_no_checksum(copy, stopped):
    for name in ("config.json", runs.PROVENANCE):
        values = json.loads((copy / name).read_text())
        del values[files.CHECKSUM]
        (copy / name).write_text(json.dumps(values))
    files.read_frame(copy / folder.METRICS).to_parquet(copy / folder.METRICS, index=False)
    files.save_file(files.read_checkpoint(copy / folder.CHECKPOINT), copy / folder.CHECKPOINT)
    pd.testing.assert_frame_equal(
        omd.load(copy).metrics, files.read_frame(stopped / folder.METRICS)
    )
    assert folder.step_of(folder.last_good(copy)) == 40
    assert files.read_json(copy / runs.PROVENANCE, sessions=list)
