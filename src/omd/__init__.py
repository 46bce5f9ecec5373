"""omd: world models trained for control instead of likelihood.

Names are imported when they are first used, so that `import omd` and `omd --help` don't wait for
JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omd import (
        agents,
        analysis,
        callbacks,
        envs,
        figures,
        implicit,
        runs,
        sweeps,
        tabular,
        training,
    )
    from omd.analysis.frames import results
    from omd.callbacks import Callback, StopAtReturn
    from omd.config import Config
    from omd.cores import use_cores
    from omd.errors import InputError
    from omd.experiment import load, sweep, train
    from omd.reports.film import watch
    from omd.runs.pure import compiler_options, make_train
    from omd.runs.run import Run

    __version__: str

_HOMES = {
    "Callback": "omd.callbacks",
    "StopAtReturn": "omd.callbacks",
    "Config": "omd.config",
    "InputError": "omd.errors",
    "Run": "omd.runs.run",
    "compiler_options": "omd.runs.pure",
    "load": "omd.experiment",
    "make_train": "omd.runs.pure",
    "results": "omd.analysis.frames",
    "sweep": "omd.experiment",
    "train": "omd.experiment",
    "use_cores": "omd.cores",
    "watch": "omd.reports.film",
}
_ROOMS = (
    "agents",
    "analysis",
    "callbacks",
    "envs",
    "figures",
    "implicit",
    "runs",
    "sweeps",
    "tabular",
    "training",
)

__all__ = [
    "Callback",
    "Config",
    "InputError",
    "Run",
    "StopAtReturn",
    "__version__",
    "agents",
    "analysis",
    "callbacks",
    "compiler_options",
    "envs",
    "figures",
    "implicit",
    "load",
    "make_train",
    "results",
    "runs",
    "sweep",
    "sweeps",
    "tabular",
    "train",
    "training",
    "use_cores",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("omd.runs.provenance").version()
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"omd.{name}")
    raise AttributeError(f"module 'omd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
