"""MDPs drawn as graphs: circles for states, arrows for (action, reward, probability, Q)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.path import Path

from omd.figures.style import GREY

ACTIONS = ("#7B3294", "#1B7837", "#B35806", "#4D4D4D")
"""Colours of the actions, in turn."""
SEEN = 0.005
"""Transitions rarer than this would read 0.00 and are left out."""
RADIUS = 0.17


class Drawn(NamedTuple):
    """A model with two states, and the action values to write on its edges."""

    transition: np.ndarray
    """p[S, A, S']."""
    reward: np.ndarray
    """r[S, A]."""
    q: np.ndarray
    """Q[S, A]."""


def draw_graph(axes: Axes, model: Drawn, title: str) -> None:
    """Two circles, an arrow for each transition that is not rare, and its tuple beside it."""
    axes.set_xlim(-2.4, 2.4)
    axes.set_ylim(-1.0, 1.0)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title(title, fontsize=9, loc="left")
    places = np.asarray([(-0.98, 0.0), (0.98, 0.0)])
    for state, place in enumerate(places):
        axes.add_patch(Circle(place, RADIUS, facecolor="#f4f4f4", edgecolor="black", zorder=3))
        axes.text(
            place[0], place[1], f"$s_{state}$", ha="center", va="center", fontsize=11, zorder=4
        )
    for state, action, successor in np.ndindex(model.transition.shape):
        if model.transition[state, action, successor] >= SEEN:
            _edge(axes, places, model, state, action, successor)


def _edge(
    axes: Axes, places: np.ndarray, model: Drawn, state: int, action: int, successor: int
) -> None:
    colour = ACTIONS[action % len(ACTIONS)]
    label = (
        f"($a_{action}$, {model.reward[state, action]:.2f}, "
        f"{model.transition[state, action, successor]:.2f}, {model.q[state, action]:.2f})"
    ).replace("-", "−")
    if state == successor:
        _loop(axes, places[state], action, -1 if state == 0 else 1, colour, label)
    else:
        _arc(axes, places[state], places[successor], action, colour, label)


def _loop(axes: Axes, place: np.ndarray, action: int, side: int, colour: str, label: str) -> None:
    """A loop on the state's outer side: above for the first action, below for the second."""
    turn = np.asarray([side, 1 if action == 0 else -1])
    start, end = (place + turn * RADIUS * _direction(angle) for angle in (80, 20))
    bends = [place + turn * np.asarray(bend) for bend in ((0.1, 0.68), (0.72, 0.3))]
    _arrow(axes, [start, *bends, end], colour)
    _write(axes, place + turn * np.asarray((0.72, 0.54)), label, colour)


def _arc(
    axes: Axes, start: np.ndarray, end: np.ndarray, action: int, colour: str, label: str
) -> None:
    """An arc above the middle to the right, below it to the left; the second action runs inside."""
    turn = np.asarray([1, 1]) if end[0] > start[0] else np.asarray([-1, -1])
    angle, height, lift = ((50, 0.72, 0.95), (12, 0.2, 0.25))[min(action, 1)]
    away = _direction(angle) * RADIUS
    first, last = start + turn * away, end + turn * away * (-1, 1)
    bend = turn * (0.45, lift - away[1])
    _arrow(axes, [first, first + bend, last + bend * (-1, 1), last], colour)
    _write(axes, (start + end) / 2 + turn * (0, height), label, colour)


def _direction(degrees: float) -> np.ndarray:
    return np.asarray([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])


def _arrow(axes: Axes, points: list[np.ndarray], colour: str) -> None:
    """A cubic Bézier curve with an arrow head."""
    path = Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
    axes.add_patch(
        FancyArrowPatch(
            path=path, arrowstyle="-|>", mutation_scale=9, color=colour, linewidth=1.2, zorder=2
        )
    )


def _write(axes: Axes, place: np.ndarray, label: str, colour: str) -> None:
    axes.text(
        place[0],
        place[1],
        label,
        ha="center",
        va="center",
        fontsize=7,
        color=colour,
        zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
    )


def legend(axes: Axes) -> None:
    """What the tuples mean."""
    axes.text(
        0.0,
        -0.02,
        "on the edges: (action, reward, probability, Q)",
        transform=axes.transAxes,
        fontsize=7,
        color=GREY,
        va="top",
    )
