"""Trackers that a run's metrics are sent to, beside the run folder."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from omd.errors import InputError, closest, install

TRACKERS = ("tensorboard",)


def open_tracker(name: str | None, folder: pathlib.Path) -> TensorBoard | None:
    """A tracker by its name; raises `InputError` if it is unknown or not installed."""
    if name is None:
        return None
    closest("tracker", name, TRACKERS)
    return TensorBoard(folder / "tensorboard")


class TensorBoard:
    def __init__(self, folder: pathlib.Path) -> None:
        self._writer = _summary_writer()(str(folder))

    def log(self, row: Mapping[str, Any]) -> None:
        """One lane's numbers at one step."""
        for name, value in row.items():
            if name not in ("lane", "seed", "step", "diverged"):
                self._writer.add_scalar(f"{name}/seed-{row['seed']}", value, row["step"])

    def close(self) -> None:
        self._writer.close()


def check_tracker(name: str | None) -> None:
    """Raise early what `open_tracker` would raise."""
    if name is not None:
        closest("tracker", name, TRACKERS)
        _summary_writer()


def _summary_writer():
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise InputError(f"tracker 'tensorboard' needs a package: {install('track')}") from error
    return SummaryWriter
