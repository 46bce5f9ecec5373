"""What a run writes while it trains: a checkpoint now and then, and one in the end."""

from __future__ import annotations

import pathlib
import time

import pandas as pd

from omd.callbacks import Callback, Record
from omd.runs import folder
from omd.settings import Settings
from omd.training.program import Program

FIRST_SECONDS, CHECKPOINT_SECONDS = 5.0, 60.0
"""Between checkpoints: in the beginning, and later. A short run then has one too."""
CHECKPOINT_SHARE = 0.05
"""Of the time that may go into checkpoints: large replay buffers are written less often."""


class Checkpoint(Callback):
    """Saves metrics and lanes at step 0, then now and then, and where the run ends, also by the
    error of another callback. Divergences are written when they are first seen."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def begin(self, settings: Settings, path: pathlib.Path | None) -> None:
        """Into this folder."""
        assert path is not None
        self._path = path
        self._started = self._saved = time.monotonic()
        self._cost = 0.0

    def after_chunk(self, record: Record) -> None:
        """Save if it is time."""
        folder.note_divergences(record.divergences, self._path)
        begin, first = time.monotonic(), record.evaluation.step == 0
        usual = min(CHECKPOINT_SECONDS, max(FIRST_SECONDS, self._saved - self._started))
        due = begin - self._saved > max(usual, self._cost / CHECKPOINT_SHARE)
        if not (first or due or record.last):
            return
        folder.save(self._program, record.state, self._path, pd.DataFrame(record.rows))
        self._saved = time.monotonic()
        if first:
            self._started = self._saved
        else:
            self._cost = self._saved - begin
        for error in record.errors:
            error.add_note(f"saved: go on with resume={self._path}")
