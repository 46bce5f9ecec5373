"""Stands for a process that dies without a word while it trains."""

import contextlib

import pytest

from omd.runs.checkpoint import Checkpoint


class Killed(BaseException):
    pass


@contextlib.contextmanager
def killed_at(step):
    """What trains in the block dies before the checkpoint of this step."""
    after_chunk = Checkpoint.after_chunk

    def dies(checkpoint, record):
        if record.evaluation.step == step:
            raise Killed
        after_chunk(checkpoint, record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "after_chunk", dies)
        with pytest.raises(Killed):
            yield
