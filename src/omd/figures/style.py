"""What the figures share: colours, captions, and files that are written atomically."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import textwrap
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from omd import catalogue, parts
from omd.errors import InputError
from omd.runs import files
from omd.runs.provenance import made_with

Progress = Callable[[str], None]
"""Hears a line of text now and then."""

PALETTE = (
    "#D55E00",
    "#0072B2",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#882255",
    "#999933",
    "#44AA99",
    "#332288",
    "#661100",
    "#888888",
    "#AA4499",
)
"""Colours of curves: Okabe and Ito's, then some of Tol's."""
MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*", "d", "8")
GREY = "#666666"

SETTINGS = {
    "font.size": 10,  # 8 points where a figure fills the width of a two-column page
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,
    "text.usetex": False,
}


class Look(NamedTuple):
    """How one objective, or one method of a figure, is drawn everywhere."""

    label: str
    colour: str
    marker: str
    face: str
    """Colour inside the marker."""


def look(name: str) -> Look:
    """The look of an objective by its text; shipped ones in the catalogue's order, one's own by
    the letters of their name. Other names, such as figure 6's methods, keep theirs as label."""
    if name in _METHODS:
        return Look(name, *_METHODS[name])
    text, shipped = name.lower() if name.isupper() else name, catalogue.names("objective")
    head, label = text.partition(":")[0], parts.label_of(text)
    if head in shipped:
        place = shipped.index(head)
    else:
        place = len(shipped) + zlib.crc32(label.encode()) % (len(PALETTE) - len(shipped))
    colour = PALETTE[place]
    return Look(literal(label), colour, MARKS[place], "white" if place == 1 else colour)


_METHODS = {
    "exact": (PALETTE[0], "o", PALETTE[0]),
    "identity": (PALETTE[2], "s", "white"),
}
"""Of figure 6: colour, marker, and the colour inside it."""


MOST_SEEDS = 10_000
"""Of a tabular figure: all run side by side, and each keeps its path."""


def check_options(budget: str, projection: str, seeds: int) -> None:
    """Raises `InputError` for options that no tabular figure knows."""
    for name, value, known in (
        ("budget", budget, ("smoke", "paper")),
        ("projection", projection, ("reference", "ball")),
    ):
        if value not in known:
            raise InputError(f"{name} must be {' or '.join(known)}, but is {value!r}; choose one.")
    parts.count("seeds", seeds, 1, MOST_SEEDS)


@contextlib.contextmanager
def context() -> Iterator[None]:
    """The common style alone: whatever a user's matplotlibrc says, LaTeX for one, is left out."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in the common style; sizes in inches."""
    with context():
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
    return figure


def styled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Runs a drawing function under the common style."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with context():
            return draw(*args, **kwargs)

    return wrapped


def literal(text: str) -> str:
    """A name from outside as a label: matplotlib would read what stands between two $ as TeX."""
    return text.replace("$", r"\$")


def caption(figure: Figure, text: str) -> None:
    """Small print under the axes, broken into lines that fit the figure's width."""
    lines = textwrap.fill(literal(text), int(19.5 * figure.get_figwidth()))
    figure.text(0.012, 0.012, lines, fontsize=6.5, color=GREY, va="bottom", ha="left")


def watermark(figure: Figure, budget: str) -> None:
    """Says across the picture that a smoke run is no result, and of a quick one what it is."""
    if budget == "quick":
        figure.text(
            0.995,
            0.995,
            "quick budget: not the paper's steps and seeds",
            fontsize=7,
            color="#cc0000",
            ha="right",
            va="top",
        )
    if budget == "smoke":
        figure.text(
            0.5,
            0.55,
            "SMOKE RUN\nnot the paper's budget",
            fontsize=4 * figure.get_figwidth(),
            color="#cc0000",
            alpha=0.25,
            ha="center",
            va="center",
            rotation=20,
            weight="bold",
            zorder=100,
        )


def save(
    figure: Figure,
    out: Path,
    name: str,
    rows: Sequence[Mapping[Any, Any]],
    record: Mapping[str, Any],
) -> list[Path]:
    """Writes name.png, .pdf, .csv (one line a row) and .json, each atomically.

    `record` gets the command, the versions and the machine added. Returns the four paths.
    """
    with files.writing(out):
        out.mkdir(parents=True, exist_ok=True)
    # no dates in pictures: the same numbers give the same bytes
    png, pdf = io.BytesIO(), io.BytesIO()
    with context():
        figure.savefig(png, format="png", dpi=200)
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    content = {
        ".png": png.getvalue(),
        ".pdf": pdf.getvalue(),
        ".csv": _table(rows).encode(),
        ".json": (json.dumps({**record, **made_with()}, indent=2) + "\n").encode(),
    }
    paths = [out / f"{name}{suffix}" for suffix in content]
    for path, data in zip(paths, content.values(), strict=True):
        with files.atomic(path) as temporary:
            temporary.write_bytes(data)
    return paths


def save_table(frame: pd.DataFrame, path: Path) -> Path:
    """Write a frame as CSV, atomically."""
    with files.atomic(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
    return path


def _table(rows: Sequence[Mapping[Any, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
