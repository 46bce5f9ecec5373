import ctypes
import math
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from contextlib import nullcontext

# before JAX loads it: its threads wait in a loop, and an LU of 900 unknowns takes 1.4 s instead of
# 5 ms where each of four workers has four of them
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import annotations
import jax
import pytest

if os.environ.get("OMD_ANNOTATIONS") != "0":
    annotations.execute()

MOST_RESIDENT = 1.5e9
NOT_SHIPPED = "not as_shipped"
WITHOUT_EMITTERS = "--xla_cpu_use_fusion_emitters=false"


def pytest_configure(config):
    """Without the tests marked `as_shipped` this process may go without XLA's fusion emitters too,
    whose code takes twice as long to compile; the flag is read once in a process."""
    if config.option.markexpr == NOT_SHIPPED:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {WITHOUT_EMITTERS}".strip()
    _share_programs(config)


def _share_programs(config):
    """Let the workers of pytest-xdist, and the processes that tests start, read what another one
    has compiled: the first process makes a directory for programs and removes it at its end."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = tempfile.TemporaryDirectory(prefix="omd-tests-")
    config.add_cleanup(folder.cleanup)
    settings = {
        "jax_compilation_cache_dir": folder.name,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Programs of tests run for milliseconds but compile for seconds, with XLA's optimisations
    three times as long: tests, and the processes that they start, go without, but for those marked
    `as_shipped`."""
    quick = item.get_closest_marker("as_shipped") is None
    jax.config.update("jax_disable_most_optimizations", quick)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(quick))
    return (yield)


@pytest.fixture(autouse=True)
def _annotations(request):
    with annotations.ignored() if request.node.get_closest_marker("stand_ins") else nullcontext():
        yield


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Programs, and what their compilation allocated, else stay: 4 GB a worker by the end. Small
    ones that modules share are worth keeping for as long as there is room."""
    yield
    if _resident() > MOST_RESIDENT:
        jax.clear_caches()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)  # glibc's; else two thirds stay with the process


def _resident():
    """Bytes of memory that this process holds; where that can't be read, more than allowed."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return math.inf


@pytest.fixture
def checkpoint_each_chunk(monkeypatch):
    """A function from whose call on training writes a checkpoint after each chunk, however long
    one takes."""

    def call():
        monkeypatch.setattr("omd.runs.checkpoint.CHECKPOINT_SECONDS", 0.0)
        monkeypatch.setattr("omd.runs.checkpoint.CHECKPOINT_SHARE", math.inf)

    return call


@pytest.fixture
def kill_at(checkpoint_each_chunk):
    """A function that gives a callback: it puts what a process that is killed at this step, before
    its checkpoint, leaves of the run in `path` beside it, in the folder `cut`. The run itself goes
    on, so that its programs compile once."""

    def kill(step, path):
        checkpoint_each_chunk()

        def copy(evaluation):
            if evaluation.step == step:
                shutil.copytree(path, path.with_name("cut"))

        return copy

    return kill


@pytest.fixture
def run_script():
    """A function that runs a script in a process of its own, with so many CPU devices and other
    environment variables if asked, and gives what it printed."""

    def run(script, devices=None, timeout=300, **variables):
        flag = f"--xla_force_host_platform_device_count={devices}"
        flags = {"XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"} if devices else {}
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            env=os.environ | flags | variables,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
