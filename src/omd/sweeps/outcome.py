"""What came of a group that a worker was asked to run."""

from __future__ import annotations

import dataclasses
from typing import Literal

from omd.errors import InputError
from omd.sweeps.plan import Group
from omd.sweeps.store import Sweep


@dataclasses.dataclass(frozen=True)
class Outcome:
    """`busy`: another process has the group; `failed`: it can't be run; `unwritable`: nor can any
    other, for the sweep's folder takes no more files."""

    status: Literal["finished", "stopped", "busy", "failed", "unwritable"]
    sentence: str = ""
    """What was wrong."""

    def settle(self, sweep: Sweep, group: Group) -> bool:
        """Note a failure in the sweep's folder; whether the group is to be run again. Raises
        `InputError` where the sweep can't go on."""
        if self.status == "unwritable":
            raise InputError(f"{sweep.folder(group)}: {self.sentence}")
        if self.status == "failed":
            sweep.fail(group, self.sentence)
        return self.status in ("stopped", "busy")


FINISHED, STOPPED, BUSY = Outcome("finished"), Outcome("stopped"), Outcome("busy")
