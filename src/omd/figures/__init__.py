import contextlib
import os
import sys

# importing matplotlib fails where MPLBACKEND names a backend that this process doesn't have;
# nothing here needs one
if "matplotlib" not in sys.modules and (_backend := os.environ.pop("MPLBACKEND", None)):
    import matplotlib

    os.environ["MPLBACKEND"] = _backend
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = _backend
