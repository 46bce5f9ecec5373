import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes
from omd.training import devices
devices.prepare(1)
import jax.numpy as jnp
jnp.linalg.qr(jnp.ones((40, 5)))
with open("/proc/self/maps") as maps:
    paths = [line.split()[-1] for line in maps if "scipy_openblas" in line and "scipy.libs" in line]
print(ctypes.CDLL(paths[0]).scipy_openblas_get_num_threads() if paths else "none")
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs Linux's /proc")
@pytest.mark.skipif((os.cpu_count() or 1) == 1, reason="one core has one thread in any case")
def test_factorisations_run_on_one_thread():
    variables = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    if done.stdout.strip() == "none":
        pytest.skip("SciPy's linear algebra isn't OpenBLAS here")
    assert done.stdout.strip() == "1"
