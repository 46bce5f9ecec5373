"""The HTML report in a real browser."""

import shutil
import subprocess

import numpy as np
import pytest
from matplotlib import image

from omd.figures import style
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


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium to open the page in")
def test_a_browser_shows_pictures_and_tables(figures):
    path = page.write(figures)
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000",
               f"--user-data-dir={figures / 'profile'}"]  # fmt: skip
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
    with pytest.raises(InputError, match="can't be written"):
        page.write(figures, figures / "file" / "page.html")
    assert files.read_json(figures / "figure-4.json")["settings"]["steps"] == 200
