"""Figure 3: two MDPs with one Q*, and how far OMD and MLE are from Q* under a norm bound."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from omd.figures.curves import draw_seeds
from omd.figures.paper.bounded import Runs, Settings, Truth, describe, run_both, settings
from omd.figures.paper.graph import Drawn, draw_graph, legend
from omd.figures.style import (
    Progress,
    caption,
    check_options,
    new_figure,
    save,
    styled,
    watermark,
)
from omd.tabular import MDP, theorem_2_mle, theorem_2_omd
from omd.tabular.design.formulation import BELLMAN_ERROR
from omd.tabular.design.parallel import cheaply

FLOOR = 1e-4
"""Errors below are drawn here: a logarithmic axis has no zero."""


def make(
    out: Path,
    *,
    budget: str = "paper",
    projection: str = "ball",
    seeds: int = 10,
    say: Progress | None = None,
) -> list[Path]:
    """Writes figure-3.png, .pdf, .csv and .json into `out`; returns their paths.

    Raises `InputError` for an unknown budget or projection, or without any seed.
    """
    check_options(budget, projection, seeds)
    start = time.perf_counter()
    setting = settings(budget, seeds)
    runs, truth = run_both(BELLMAN_ERROR, projection, setting, say)
    with jax.enable_x64(True):
        measured = {label: _measure(label, run, truth) for label, run in runs.items()}
    rows = [row for label, run in runs.items() for row in run.rows(label, **measured[label])]
    chosen = _chosen(runs["OMD"], measured["OMD"]["q_error"])
    figure = _draw(runs, measured, truth, chosen, setting, budget, projection)
    drawn = _model(runs["OMD"], chosen)
    record = {
        "figure": 3,
        "budget": budget,
        "projection": projection,
        "settings": setting._asdict(),
        "q_star": truth.q.tolist(),
        "drawn_model": {
            "norm_bound": float(runs["OMD"].bound[chosen])
            if np.isfinite(runs["OMD"].bound[chosen])
            else None,
            "seed": int(runs["OMD"].seed[chosen]),
            "transition": drawn.transition.tolist(),
            "reward": drawn.reward.tolist(),
            "q": drawn.q.tolist(),
        },
        "wall_clock_seconds": round(time.perf_counter() - start, 2),
    }
    return save(figure, out, "figure-3", rows, record)


def _measure(label: str, runs: Runs, truth: Truth) -> dict[str, np.ndarray]:
    """q_error and the gaps of theorem 2 for every lane, by the names of the CSV.

    `bound_gap` is the bound of the label's own part of the theorem less `q_error`. The MLE bound
    has r_max = max |r| as in the published figure, though the theorem is for rewards in
    [0, r_max] and this MDP has negative ones; `bound_gap_whole_range` takes the width of the
    interval that holds them (and the soft operator's entropy), as the theorem asks.
    """
    found = _theorem_2(
        runs.design.mdp, truth.q, runs.theta, runs.q, runs.design, omd=label == "OMD"
    )
    # in the order of the CSV: compiled functions return dictionaries sorted
    columns = {name: np.asarray(found[name]) for name in ("q_error", "bound_gap")}
    columns["bound_gap_whole_range"] = np.asarray(found["bound_gap_whole_range"])
    return {**columns, "expected_return": runs.expected_return}


def _theorem_2(mdp, q_star, theta, q, design, *, omd: bool) -> dict[str, Any]:
    def lane(theta, q_hat):
        model = MDP(design.transition(theta), theta.reward, mdp.discount, mdp.initial)
        values = {"q_star": q_star, "q_hat": q_hat}
        if omd:
            bound = theorem_2_omd(mdp, model, temperature=design.temperature, **values)
            return {
                "q_error": bound.left,
                "bound_gap": bound.gap,
                "bound_gap_whole_range": bound.gap,
            }
        published = (0.0, jnp.abs(mdp.reward).max())
        bound = theorem_2_mle(mdp, model, reward_range=published, **values)
        whole = theorem_2_mle(mdp, model, temperature=design.temperature, **values)
        return {"q_error": bound.left, "bound_gap": bound.gap, "bound_gap_whole_range": whole.gap}

    return jax.jit(jax.vmap(lane), compiler_options=cheaply(0))(theta, q)


def _chosen(runs: Runs, q_error: np.ndarray) -> int:
    """The lane whose model is drawn: the one without a bound, or the smallest bound that will do.

    On the ball that is the first lane whose Q is Q* to 1e-6, or the best there is.
    """
    free = np.flatnonzero(~np.isfinite(runs.bound))
    if free.size:
        return int(free[0])
    return int(np.argmax(q_error < 1e-6)) if (q_error < 1e-6).any() else int(q_error.argmin())


def _model(runs: Runs, lane: int) -> Drawn:
    theta = jax.tree.map(lambda x: x[lane], runs.theta)
    with jax.enable_x64(True):
        transition = np.asarray(runs.design.transition(theta))
    return Drawn(transition, np.asarray(theta.reward), runs.q[lane])


@styled
def _draw(
    runs: dict[str, Runs],
    measured: dict[str, dict[str, np.ndarray]],
    truth: Truth,
    chosen: int,
    setting: Settings,
    budget: str,
    projection: str,
) -> Figure:
    figure = new_figure(9.6, 4.9)
    omd, mdp = runs["OMD"], runs["OMD"].design.mdp
    true_model = Drawn(np.asarray(mdp.transition), np.asarray(mdp.reward), truth.q)
    draw_graph(figure.add_axes((0.01, 0.555, 0.46, 0.385)), true_model, "The original MDP")
    bound, error = omd.bound[chosen], measured["OMD"]["q_error"][chosen]
    trained = f"κ = {bound:.2f}" if np.isfinite(bound) else "no bound"
    bottom = figure.add_axes((0.01, 0.125, 0.46, 0.385))
    title = f"An OMD model ({trained}) with the same Q*, to {error:.0e}"
    draw_graph(bottom, _model(omd, chosen), title)
    legend(bottom)
    curves = figure.add_axes((0.535, 0.28, 0.45, 0.645))
    floored = _draw_curves(curves, runs, measured, setting)
    curves.set_title(f"Errors and bounds — projection: {projection}", fontsize=9, loc="left")
    small = f" Values below {FLOOR:g} are drawn there." if floored else ""
    caption(figure, describe(projection, runs, setting) + small)
    watermark(figure, budget)
    return figure


def _draw_curves(
    axes: Axes,
    runs: dict[str, Runs],
    measured: dict[str, dict[str, np.ndarray]],
    setting: Settings,
) -> bool:
    """Draws the four curves; whether any value lay below the floor."""
    gap = {"linestyle": (0, (4, 2)), "marker": "^"}
    for label, run in runs.items():
        error, rest = (np.maximum(measured[label][x], FLOOR) for x in ("q_error", "bound_gap"))
        name = f"{label}: error ‖Q* − Q‖∞"
        draw_seeds(axes, run.bound, run.seed, error, label, name=name)
        name = f"{label}: bound of theorem 2 − error"
        draw_seeds(axes, run.bound, run.seed, rest, label, name=name, **gap)
    axes.set_yscale("log")
    axes.set_xlim(0, max(setting.bounds))
    axes.set_xlabel("bound κ on the model's norm")
    axes.legend(loc="upper center", bbox_to_anchor=(0.47, -0.145), ncols=2, fontsize=8)
    floored = any(
        (measured[label][x][np.isfinite(run.bound)] < FLOOR).any()
        for label, run in runs.items()
        for x in ("q_error", "bound_gap")
    )
    if floored:
        axes.set_ylim(FLOOR / 1.5, None)
    else:
        axes.set_yticks([1.5, 2, 3, 5, 10, 20], ["1.5", "2", "3", "5", "10", "20"])
        axes.minorticks_off()
    return floored
