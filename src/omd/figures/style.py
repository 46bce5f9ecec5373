"""What the figures share: colours, captions, and files that appear whole or not at all."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import os
import platform
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from omd.types import InputError

Progress = Callable[[str], None]
"""Hears a line of text now and then."""

COLOURS = {"OMD": "#D55E00", "MLE": "#0072B2", "exact": "#D55E00", "identity": "#009E73"}
MARKERS = {"OMD": "o", "MLE": "s", "exact": "o", "identity": "s"}
GREY = "#666666"

SETTINGS = {
    "font.size": 9,
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
}


def check_options(budget: str, projection: str, seeds: int) -> None:
    """Raises `InputError` for options that no tabular figure knows."""
    for name, value, known in (
        ("budget", budget, ("smoke", "paper")),
        ("projection", projection, ("reference", "ball")),
    ):
        if value not in known:
            raise InputError(f"{name} must be {' or '.join(known)}, but is {value!r}; choose one.")
    if seeds < 1:
        raise InputError(f"seeds must be at least 1, but is {seeds}; the paper has 10.")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in the common style; sizes in inches."""
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
    return figure


def styled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Runs a drawing function under the common style."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with mpl.rc_context(SETTINGS):
            return draw(*args, **kwargs)

    return wrapped


def caption(figure: Figure, text: str) -> None:
    """Small print under the axes, broken into lines that fit the figure's width."""
    lines = textwrap.fill(text, int(19.5 * figure.get_figwidth()))
    figure.text(0.012, 0.012, lines, fontsize=6.5, color=GREY, va="bottom", ha="left")


def watermark(figure: Figure, budget: str) -> None:
    """Says across the picture that a smoke run is no result."""
    if budget == "smoke":
        figure.text(
            0.5, 0.55, "SMOKE RUN\nnot the paper's budget", fontsize=4 * figure.get_figwidth(),
            color="#cc0000", alpha=0.25, ha="center", va="center", rotation=20, weight="bold",
            zorder=100,
        )  # fmt: skip


def save(
    figure: Figure,
    out: Path,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any],
) -> list[Path]:
    """Writes name.png, .pdf, .csv (one line a row) and .json, each under its name only when whole.

    `record` gets the versions and the machine added. Returns the four paths.
    """
    out.mkdir(parents=True, exist_ok=True)
    # no dates: the same numbers give the same bytes
    png, pdf = io.BytesIO(), io.BytesIO()
    with mpl.rc_context(SETTINGS):
        figure.savefig(png, format="png", dpi=200)
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    content = {
        ".png": png.getvalue(),
        ".pdf": pdf.getvalue(),
        ".csv": _table(rows).encode(),
        ".json": (json.dumps({**record, **_provenance()}, indent=2) + "\n").encode(),
    }
    return [_write(out / f"{name}{suffix}", data) for suffix, data in content.items()]


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write(path: Path, data: bytes) -> Path:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _provenance() -> dict[str, Any]:
    import jax

    packages: Iterable[str] = ("omd", "jax", "jaxlib", "numpy", "optax", "equinox", "matplotlib")
    device = jax.local_devices()[0]
    return {
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in packages},
        },
        "device": _processor() if device.platform == "cpu" else device.device_kind,
        "devices": len(jax.local_devices()),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    }


def _processor() -> str:
    """The processor's model name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
