"""Text from outside is shown as it is, and a picture that can't be drawn costs nothing else."""

import dataclasses
import os
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from omd.config import Config
from omd.errors import Notice
from omd.figures import learning_curve, overview, style
from omd.reports import film, page, tables
from omd.runs import files, folder, stored
from omd.runs import run as runs

ODD = "a[/b][red]<script>$\\frac{$"


@pytest.fixture(scope="module")
def settings():
    return dataclasses.replace(runs.resolved(Config(steps=2000)), env=ODD)


@pytest.fixture
def run(settings, tmp_path):
    """A folder as a run leaves it, with odd names everywhere."""
    path = tmp_path / "exp[lr=0.1][/b]"
    path.mkdir(parents=True)
    files.write_json(path / stored.CONFIG, stored.to_json(settings))
    frame = pd.DataFrame(
        {
            "lane": 0,
            "seed": 0,
            "step": [0, 1000],
            "episode_return": [9.0, 12.5],
            "model_mse": [np.nan, 0.1],
            "diverged": False,
        }
    )
    files.write_frame(path / folder.METRICS, frame)
    return runs.load(path)


def test_the_table_shows_names_as_they_are(run, capsys):
    learning_curve.draw(run.metrics, run.config, run.path / "learning-curve.png")
    tables.show(run)
    out = capsys.readouterr().out
    assert f"picture: {run.path / 'learning-curve.png'}" in out.replace("\n", "")
    assert "[/b][red]<script>" in out
    assert "10.8" in out


def test_a_page_holds_names_as_text(run):
    text = page.write(run.path).read_text()
    assert "a[/b][red]&lt;script&gt;$" in text
    assert "<script>" not in text
    assert "data:image/png" in text


def test_pictures_take_no_formula_from_names():
    finals = pd.DataFrame({"seed": 0, "env": [ODD, "b"], "final_return": [1.0, 2.0]})
    assert overview.draw(finals, ["env"]).startswith(b"\x89PNG")


def test_pictures_do_not_hang_on_a_matplotlibrc(run):
    plain = learning_curve.picture(run.metrics, run.config)
    with mpl.rc_context({"text.usetex": True, "figure.facecolor": "red"}):
        assert learning_curve.picture(run.metrics, run.config) == plain
        assert mpl.rcParams["text.usetex"]


@pytest.mark.parametrize("backend", ["nonsense", "module://not_there.backend"])
def test_pictures_do_not_hang_on_a_backend(backend):
    script = "from omd.figures import style\nimport os\nprint(os.environ['MPLBACKEND'])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": backend},
    )
    assert done.stdout == f"{backend}\n", done.stderr


def test_a_picture_that_fails_is_one_line_and_costs_nothing_else(run, monkeypatch, capsys):
    def fail(*_, **__):
        raise ValueError("two\nlines")

    monkeypatch.setattr(style, "new_figure", fail)
    with pytest.warns(Notice, match="no learning curve was drawn: two lines"):
        learning_curve.draw(run.metrics, run.config, run.path / "learning-curve.png")
    tables.show(run)
    out = capsys.readouterr().out
    assert "10.8" in out
    assert "picture" not in out
    text = page.write(run.path).read_text()
    assert "a picture couldn&#39;t be drawn: two lines" in text
    assert "12.5" in text


def test_a_folder_that_is_half_written_does_not_hide_the_others(run, capsys):
    for name, words in {"none": "", "list": "[]", "deep": "[" * 100_000}.items():
        (run.path.parent / name).mkdir()
        (run.path.parent / name / stored.CONFIG).write_text(words)
    tables.listing("runs", None, run.path.parent)
    out = capsys.readouterr().out
    assert out.count("can't be used") == 3
    assert "return 10.8" in out


@pytest.mark.parametrize("error", [IndexError(), RuntimeError("\n"), KeyError("x")])
def test_whatever_a_renderer_says_is_one_sentence(error):
    def draw():
        raise error

    with pytest.raises(film.InputError, match=f"can't be drawn here .{type(error).__name__}"):
        film._drawn("Mine-v0", draw)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("figure-4.json", b""),
        ("figure-4.json", b'{"settings": 3}'),
        ("figure-4.json", b'{"sweeps": [3]}'),
        ("figure-4.json", b'{"versions": []}'),
        ("figure-4-claims.csv", b""),
        ("figure-4-claims.csv", b"mean\n1\n"),
        ("figure-4-aggregates.csv", b"\xff\xfe\x00"),
        ("figure-4.png", None),
    ],
)
def test_a_damaged_figure_is_a_problem_and_the_others_are_shown(tmp_path, name, content):
    files.write_json(tmp_path / "figure-4.json", {"settings": {"tau": 0.1}})
    files.write_json(tmp_path / "figure-phase.json", {"settings": {"seeds": 5}})
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(content)
    text = page.write(tmp_path).read_text()
    assert "figure 4 is left out, for its files can&#39;t be read: " in text
    assert "<h2>Figure phase" in text
