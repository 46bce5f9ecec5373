"""The pages on tabular models run as they stand, and print what they say they print."""

import pathlib
import re

import jax
import matplotlib
import matplotlib.pyplot as plt
import pytest

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PAGES = ("rust-bus-engine", "irl-on-a-grid", "incentive-design")
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_page(page, tmp_path, monkeypatch, capsys):
    """In JAX's default precision, as a reader has it."""
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs" / "images").mkdir(parents=True)
    blocks = BLOCK.findall((DOCS / f"{page}.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 3
    names: dict = {"__name__": page}
    with jax.enable_x64(False):
        for code, printed in blocks:
            exec(compile(code, f"{page}.md", "exec"), names)
            assert capsys.readouterr().out == printed
    plt.close("all")
    assert (tmp_path / "docs" / "images" / f"{page}.png").stat().st_size > 10_000
    assert (DOCS / "images" / f"{page}.png").exists()
