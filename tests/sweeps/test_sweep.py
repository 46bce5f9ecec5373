import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
from killed import killed_at

import omd
from omd.analysis.frames import final_returns
from omd.reports import page
from omd.sweeps import driver, group, plan, spec, worker
from omd.sweeps.store import Sweep

BASE = {
    "hidden": 8,
    "batch_size": 16,
    "random_steps": 50,
    "steps": 400,
    "evaluate_every": 50,
    "evaluate_episodes": 2,
}
SOURCE = {"base": BASE, "grid": [{"objective": ["omd", "mle"], "model_hidden": [1, 3]}]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep of these tests, never interrupted, by two drivers that share it."""
    path = tmp_path_factory.mktemp("sweeps") / "whole"
    options = {"out": path, "workers": 1, "progress": False}
    both = [threading.Thread(target=omd.sweep, args=(SOURCE,), kwargs=options) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    return Sweep(path)


def created(path, source=SOURCE):
    """A sweep that has not begun, with the plan of a one-core machine."""
    read = spec.read(source)
    groups = plan.groups(read.lanes, plan.Machine("cpu", 1, 1e9))
    return Sweep.create(path, read, groups, {})


def assert_same_numbers(one, other):
    pd.testing.assert_frame_equal(omd.results(one.path), omd.results(other.path), check_exact=True)


def test_results_have_every_lane_with_its_settings(whole):
    assert driver.missing(whole) == []
    frame = omd.results(whole.path)
    assert sorted(frame["lane"].unique()) == [0, 1, 2, 3]
    assert list(frame["step"].unique()) == list(range(0, 401, 50))
    points = frame.drop_duplicates("lane")[["objective", "model_hidden", "seed"]]
    assert points.to_numpy().tolist() == [
        ["omd", 1, 0],
        ["omd", 3, 0],
        ["mle", 1, 0],
        ["mle", 3, 0],
    ]
    assert set(frame["status"]) == {"finished"}
    assert frame["random_model_mse"].gt(0).all()
    pd.testing.assert_frame_equal(pd.read_parquet(whole.path / "results.parquet"), frame)
    ends = final_returns(frame)
    last = frame[(frame["lane"] == 2) & (frame["step"] > 0)]["episode_return"]
    assert ends["final_return"][2] == pytest.approx(
        frame[frame["lane"] == 2]["episode_return"].tail(10).mean()
    )
    assert last.size == 8
    names = {p.name for p in whole.folder(whole.groups[0]).iterdir() if p.name[0] != "."}
    assert names == {"agents.safetensors", "done.json", "metrics.parquet", "provenance.json"}


def test_a_lane_of_a_sweep_is_the_run_with_its_settings(whole, tmp_path):
    config = whole.lanes[1]
    run = omd.train(config, out=tmp_path, progress=False)
    frame = omd.results(whole.path)
    mine = frame[frame["lane"] == 1]
    np.testing.assert_array_equal(mine["episode_return"], run.metrics["episode_return"])
    np.testing.assert_allclose(mine["model_mse"], run.metrics["model_mse"], rtol=1e-4)
    same = omd.results(run.path)
    others = {name for name in frame.columns if not name.startswith("live_units_")}
    assert set(same.columns) == others


def test_the_same_command_again_does_nothing_and_other_sweeps_are_refused(whole, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in (whole.path / "groups").rglob("*.json")}
    assert omd.sweep(SOURCE, out=whole.path, progress=False).lanes == whole.lanes
    assert omd.sweep(whole.path, progress=False).path == whole.path
    assert before == {p: p.stat().st_mtime_ns for p in (whole.path / "groups").rglob("*.json")}
    with pytest.raises(omd.InputError, match=r"holds another sweep.*tau 0\.01, not 0\.5"):
        omd.sweep(SOURCE, options={"tau": [0.5]}, out=whole.path, progress=False)
    with pytest.raises(omd.InputError, match="its settings stay; leave out tau"):
        omd.sweep(whole.path, options={"tau": [0.5]}, progress=False)
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(omd.InputError, match=r"holds other things \(thesis\.tex"):
        omd.sweep(SOURCE, out=tmp_path, progress=False)
    assert [p.name for p in tmp_path.iterdir() if p.name[0] != "."] == ["thesis.tex"]


def test_a_group_killed_after_a_checkpoint_goes_on_to_the_same_numbers(
    tmp_path, checkpoint_each_chunk
):
    worker._take_one_device()
    # in this process too: it may have other threads than a worker, and so other last bits
    straight = created(tmp_path / "straight")
    for one in straight.groups:
        assert group.run(straight, one.number) == group.FINISHED
    sweep = created(tmp_path / "cut")
    checkpoint_each_chunk()
    with killed_at(250):
        group.run(sweep, 0)
    frame = omd.results(sweep.path)
    assert frame["status"].value_counts().to_dict() == {"unfinished": 10, "missing": 2}
    assert frame["step"].max() == 200
    for one in sweep.groups:
        assert group.run(sweep, one.number) == group.FINISHED
    assert_same_numbers(straight, sweep)
    record = json.loads((sweep.folder(sweep.groups[0]) / "provenance.json").read_text())
    assert [s["from_step"] for s in record["sessions"]] == [0, 200]


def test_a_group_without_a_model_finishes_and_has_a_report(tmp_path):
    base = {**BASE, "steps": 100, "objective": "none"}
    sweep = created(tmp_path / "none", {"base": base, "grid": [{"seeds": 1}]})
    assert group.run(sweep, 0) == group.FINISHED
    frame = omd.results(sweep.path)
    assert frame["random_model_mse"].isna().all()
    assert np.isfinite(final_returns(frame)["final_return"]).all()
    assert page.of_sweep(sweep)["facts"] == ["1 lanes", "1 finished"]


def test_a_group_that_another_process_has_is_left_alone(tmp_path):
    sweep = created(tmp_path / "shared")
    lock = sweep.folder(sweep.groups[0]) / ".lock"
    program = (
        "import filelock, sys, time\n"
        f"lock = filelock.FileLock({str(lock)!r}); lock.acquire()\n"
        "print('mine', flush=True); time.sleep(600)\n"
    )
    lock.parent.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"mine\n"
        assert group.run(sweep, 0) == group.BUSY
        other.kill()
        other.wait()
        with sweep.claim(sweep.groups[0]) as mine:
            assert mine  # the kernel has freed what the dead process held


def children(pid):
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(word) for word in task.read_text().split()]
    return found


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (seen := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return seen


def ray_workers():
    """Processes of this user that run a group for Ray."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::sweep-") and path.stat().st_uid == os.getuid():
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_ray_gives_the_numbers_of_the_local_engine_though_a_worker_dies(whole, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'omd[ray]'")
    path, killed = tmp_path / "ray", []

    def kill_one():
        wait_for(lambda: len(list(path.glob("groups/*/provenance.json"))) == 2, 900)
        killed.append(wait_for(ray_workers)[0])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    omd.sweep(SOURCE, out=path, engine="ray", workers=2, progress=False)
    killer.join()
    assert killed
    sweep = Sweep(path)
    assert_same_numbers(whole, sweep)
    records = [json.loads(p.read_text()) for p in path.glob("groups/*/provenance.json")]
    assert sorted(len(record["sessions"]) for record in records) == [1, 2]


def test_engines_that_cannot_work_are_refused(tmp_path):
    with pytest.raises(omd.InputError, match=r"unknown engine 'rey'.*ray"):
        omd.sweep(SOURCE, out=tmp_path, engine="rey")
    with pytest.raises(omd.InputError, match="address is 'auto', but engine is 'local'"):
        omd.sweep(SOURCE, out=tmp_path, address="auto")
    with pytest.raises(omd.InputError, match="workers is 0"):
        omd.sweep(SOURCE, out=tmp_path, workers=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_killed_workers_and_a_killed_driver_change_no_number(whole, tmp_path):
    path = tmp_path / "killed"
    (tmp_path / "mine.toml").write_text(
        "[base]\n"
        + "".join(f"{k} = {v}\n" for k, v in BASE.items())
        + '[[grid]]\nobjective = ["omd", "mle"]\nmodel_hidden = [1, 3]\n'
    )
    command = [
        sys.executable,
        "-m",
        "omd.cli",
        "sweep",
        tmp_path / "mine.toml",
        "--out",
        path,
        "--workers",
        "2",
    ]
    log = tmp_path / "stderr"
    with log.open("w") as stderr, subprocess.Popen(command, stderr=stderr) as first:
        wait_for(lambda: list(path.glob("groups/*/initial.safetensors")))  # one is at work
        victims = children(first.pid)
        assert victims
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        orphans = wait_for(lambda: set(children(first.pid)) - set(victims))
        first.kill()
    assert "its worker died (SIGKILL); another one goes on from its last" in log.read_text()
    wait_for(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in orphans))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same_numbers(whole, Sweep(path))


def test_two_drivers_share_a_sweep_without_doing_a_group_twice(whole):
    for one in whole.groups:
        record = json.loads((whole.folder(one) / "provenance.json").read_text())
        assert len(record["sessions"]) == 1


def test_a_group_that_kills_its_workers_fails_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'omd.sweeps.worker' in ' '.join(sys.orig_argv) and '--plan' not in "
        "sys.orig_argv:\n"
        "    import io, os\n"
        "    class Watch(io.TextIOWrapper):\n"
        "        def __next__(self):\n"
        "            line = super().__next__()\n"
        "            if line.strip() == '0':\n"
        "                print('the floor is gone', file=sys.stderr, flush=True); os._exit(9)\n"
        "            return line\n"
        "    sys.stdin = Watch(sys.stdin.buffer)\n"
    )
    source = pathlib.Path(omd.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{source}")
    from omd.reports import tables as report

    sweep = omd.sweep(SOURCE, out=tmp_path / "dying", workers=1, progress=False)
    assert report.show_sweep(sweep) == 1
    error = capsys.readouterr().err
    assert "group 0 failed: its worker died (exit code 9): the floor is gone, 3 times" in error
    frame = omd.results(sweep.path).drop_duplicates("lane")
    assert frame["status"].value_counts().to_dict() == {"failed": 2, "finished": 2}
    assert len(final_returns(omd.results(sweep.path))) == 2


def test_a_full_disk_is_a_sentence_and_keeps_what_is_finished(tmp_path, monkeypatch):
    sweep = created(tmp_path / "full")
    assert group.run(sweep, 1) == group.FINISHED

    def full(*_):
        raise OSError(28, "No space left on device")

    from omd.runs import folder

    monkeypatch.setattr(folder, "save", full)
    outcome = worker.run(str(sweep.path), 0)
    assert outcome.status == "unwritable"
    assert outcome.sentence.startswith("No space left on device")
    assert sweep.done(sweep.groups[1])
    assert not sweep.done(sweep.groups[0])
