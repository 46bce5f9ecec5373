import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
import os, signal, sys, threading, time
import jax, jax.numpy as jnp
from omd.runs.signals import Stop

def endless(x):  # one compiled program: Python's own handlers never run in it
    return jax.lax.while_loop(lambda x: x >= 0, lambda x: x + 1 - (x > 9), x)

def send():
    time.sleep(0.3)
    for _ in range(2):
        os.kill(os.getpid(), signal.{signal})
        time.sleep(1)

program = jax.jit(endless).lower(jnp.float32(0)).compile()
with Stop():
    threading.Thread(target=send, daemon=True).start()
    program(jnp.float32(0)).block_until_ready()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_the_second_signal_ends_a_process_whose_chunk_never_ends(name, code):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT.replace("{signal}", name))],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.count("omd: stopping after the chunk") == 1
