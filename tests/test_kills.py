import os
import runpy

import pytest


@pytest.mark.skipif("OMD_LONG" not in os.environ, reason="takes a minute: make attacks")
def test_a_killed_run_goes_on_to_the_same_bits():
    """Five kills; `python tests/kills.py` makes fifty, of other jobs too."""
    kills = runpy.run_path(__file__.replace("test_kills", "kills"))
    words = kills["run_of"]("CartPole-v1", "--objective", "none")
    job = kills["Job"]("CartPole-v1", words, kills["METRICS"], kills["runs_differ"], 12)
    assert kills["main"](5, [job]) == 0
