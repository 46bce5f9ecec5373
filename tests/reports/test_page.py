"""The HTML report in a real browser."""

import io
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from matplotlib import image

from omd.figures import learning_curve, style
from omd.reports import page
from omd.runs import files

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture
def figures(tmp_path):
    """A folder as `omd figure` leaves it, with names that HTML would stumble over."""
    figure = style.new_figure(3, 2)
    figure.add_subplot().plot([0, 1], [1, 0], color="#D55E00", linewidth=6)
    record = {"settings": {"env": "<b>Cart & Pole</b>", "steps": 200}, "sweeps": []}
    style.save(figure, tmp_path, "figure-4", [{"x": 1}], record)
    (tmp_path / "figure-4-claims.csv").write_text(
        "claim,at,estimate,low,high,outcome\nOMD above MLE,width 1,3.5,1.25,6,holds\n"
    )
    return tmp_path


def test_the_page_escapes_what_it_quotes(figures):
    text = page.write(figures).read_text()
    assert "&lt;b&gt;Cart &amp; Pole&lt;/b&gt;" in text
    assert "<b>Cart" not in text
    assert "3.5 [1.25, 6]" in text


def test_figures_with_a_name_stand_in_the_page_too(figures):
    style.save(style.new_figure(1, 1), figures, "phase", [{"x": 1}], {"settings": {"seeds": 2}})
    text = page.write(figures).read_text()
    assert text.index("<h2>Figure 4</h2>") < text.index("<h2>Figure phase</h2>")


def test_lanes_of_a_sweep_are_called_by_their_settings():
    frame = pd.DataFrame(
        {"lane": [0, 0, 1], "seed": [3, 3, 4], "tau": [0.01, 0.01, np.nan], "env": ["x"] * 3}
    )
    assert page.names_of(frame, ["tau", "seed"]) == {0: "tau=0.01 seed=3", 1: "seed=4"}


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium to open the page in")
def test_a_browser_shows_pictures_and_tables(figures):
    path = page.write(figures)
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=3000",
        f"--user-data-dir={figures / 'profile'}",
    ]
    run = {"capture_output": True, "timeout": 120, "check": True}
    probe = figures / "probe.html"
    probe.write_text(
        path.read_text().replace(
            "</body>",
            "<script>onload = () => { const i = document.images[0];"
            " document.title = [document.images.length, i.complete, i.naturalWidth,"
            " document.querySelectorAll('td').length,"
            " performance.getEntriesByType('resource').filter(r => !r.name.startsWith('data:'))"
            ".length].join(' ') }</script></body>",
        )
    )
    done = subprocess.run([*command, "--dump-dom", probe.as_uri()], text=True, **run)
    title = done.stdout.partition("<title>")[2].partition("</title>")[0]
    count, complete, width, cells, loaded = title.split()
    assert (count, complete, width, loaded) == ("1", "true", "600", "0")
    assert int(cells) >= 6
    shot = figures / "shot.png"
    subprocess.run(
        [*command, f"--screenshot={shot}", "--window-size=900,900", path.as_uri()], **run
    )
    pixels = image.imread(shot)[..., :3]
    orange = np.abs(pixels - np.array([213, 94, 0]) / 255).max(axis=-1) < 0.1
    assert orange.sum() > 500, "the picture's line is not on the screen"


def test_a_page_that_cannot_be_written_is_a_sentence(figures):
    from omd.errors import InputError

    (figures / "file").write_text("")
    with pytest.raises(InputError, match="no folder"):
        page.write(figures, figures / "file" / "page.html")
    assert files.read_json(figures / "figure-4.json")["settings"]["steps"] == 200


@pytest.fixture
def run(tmp_path):
    """A run's folder with two seeds, one of which diverged; nothing was trained."""
    from omd import Config
    from omd.runs.run import Run, resolved
    from omd.runs.stored import CONFIG, to_json

    settings = resolved(Config(seeds=2, steps=3000))
    rows = [
        {
            "lane": lane,
            "seed": lane,
            "step": step,
            "diverged": lane == 1 and step >= 2000,
            "episode_return": 10.0 * (lane + 1),
            "model_mse": np.nan if lane == 1 and step >= 2000 else 0.5,
        }
        for step in (1000, 2000, 3000)
        for lane in (0, 1)
    ]
    files.write_json(tmp_path / CONFIG, to_json(settings))
    files.write_frame(tmp_path / "metrics.parquet", pd.DataFrame(rows))
    return Run(tmp_path, settings, pd.DataFrame(rows))


def test_the_page_of_a_run_says_what_came_out_and_which_seed_diverged(run):
    text = " ".join(page.write(run.path).read_text().split())
    assert "<h1>OMD on CartPole-v1</h1>" in text
    assert "2 seeds, 3,000 environment steps each" in text
    assert "return 15.0 ± 5.0" in text
    assert "seed 1 diverged, seen at step 2,000" in text
    assert "<td>1</td><td>20</td><td>20</td><td>0.5</td><td>diverged at step 2,000</td>" in text
    assert "steps is 3000 here; the paper has 200000" in text
    assert "objective is" not in text
    assert str(run.path) not in text


def test_the_learning_curve_has_a_cross_where_a_seed_diverged(run):
    pixels = image.imread(io.BytesIO(learning_curve.picture(run.metrics, run.config)))[..., :3]
    red = np.abs(pixels - np.array([0.8, 0, 0])).max(axis=-1) < 0.05
    assert red.sum() > 40
    kept = run.metrics.assign(diverged=False)
    pixels = image.imread(io.BytesIO(learning_curve.picture(kept, run.config)))[..., :3]
    assert (np.abs(pixels - np.array([0.8, 0, 0])).max(axis=-1) < 0.05).sum() == 0
