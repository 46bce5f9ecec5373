"""Figures are found by their files, and each takes the options of its `make`."""

import sys

import pytest
from click.testing import CliRunner

import omd
import omd.figures
from omd import cli
from omd.figures import shipped

MINE = '''
"""Figure mine: a picture of a number. More words."""

def make(out, *, seeds=3, sweeps=(), say=None):
    say(f"{seeds} seeds")
    return [out / "mine.png"]
'''


def test_a_new_figure_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "figure_mine.py").write_text(MINE)
    monkeypatch.setattr(omd.figures, "__path__", [*omd.figures.__path__, str(tmp_path)])
    try:
        assert [*shipped.places()][:8] == list("12345678")
        done = CliRunner().invoke(cli.program, ["figure", "mine", "--seeds", "5", "--out", "x"])
        assert done.exit_code == 0, done.output
        assert done.stdout == "x/mine.png\n"
        assert done.stderr == "5 seeds\n"
        rows = dict(cli.figure_rows(cli.program.commands["figure"]))
        assert rows["mine"] == "a picture of a number (--seeds, --sweep)"
        with pytest.raises(omd.InputError, match=r"--run FOLDER goes with figure 8 or claims: le"):
            shipped.plan(["mine", "2"], {"runs": "x"}, {"runs": "--run FOLDER"}, print)
    finally:
        sys.modules.pop("omd.figures.figure_mine", None)
