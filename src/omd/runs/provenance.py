"""What made a result: versions, device, command."""

from __future__ import annotations

import datetime
import importlib.metadata
import pathlib
import platform
import sys
from typing import Any

import jax

from omd.errors import DISTRIBUTION

PACKAGES = (
    DISTRIBUTION,
    "jax",
    "jaxlib",
    "equinox",
    "optax",
    "lineax",
    "gymnax",
    "gymnasium",
    "mujoco",
    "mujoco-mjx",
    "numpy",
    "matplotlib",
)


def made_with() -> dict[str, Any]:
    """Versions, device and command of this process; no names of people, machines or folders."""
    devices = jax.devices()
    return {
        "command": " ".join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "device": f"{len(devices)} x {devices[0].device_kind}",
    }


def version() -> str:
    """Of this package, as it is installed."""
    return _version(DISTRIBUTION) or "unknown"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
