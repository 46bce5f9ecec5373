"""Where it pays to train a model for control: returns of MLE and OMD on small MDPs, by the model's
capacity and by the number of distracting states."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from omd.figures.paper.bounded import statuses, use_every_core
from omd.figures.style import (
    Progress,
    caption,
    check_options,
    new_figure,
    save,
    styled,
    watermark,
)
from omd.tabular import MDP, garnet, with_distractors
from omd.tabular.design.descent import descend, uniform_starts
from omd.tabular.design.formulation import BELLMAN_ERROR, LIKELIHOOD, Design
from omd.tabular.design.parallel import Lanes
from omd.tabular.design.projection import Model

STATES, ACTIONS, SUCCESSORS = 4, 2, 2
"""Of the task, a Garnet MDP of its own for each seed."""
DISCOUNT = 0.9
NOISE = 0.05
"""Share of a uniform distribution in the task's transitions, so that all have finite logits."""
REGULARITY = 0.9
"""Probability that the distractor goes to the next state of its cycle."""
OBJECTIVES = {"MLE": LIKELIHOOD, "OMD": BELLMAN_ERROR}


class Settings(NamedTuple):
    """What a budget buys."""

    bounds: tuple[float, ...]
    distractors: tuple[int, ...]
    seeds: int
    max_steps: int


def settings(budget: str, seeds: int) -> Settings:
    if budget == "smoke":
        return Settings((1.0, 16.0), (1, 2), min(seeds, 2), 20)
    bounds = tuple(np.geomspace(1, 32, 6).tolist())
    return Settings(bounds, (1, 2, 3, 4), seeds, 300)


def make(
    out: Path, *, budget: str = "paper", seeds: int = 10, say: Progress | None = None
) -> list[Path]:
    """Writes phase.png, .pdf, .csv and .json into `out`; returns their paths.

    Capacity is the bound κ on the model's norm (section 4.2), distractors a factor of the state
    that moves by itself. Gradients are exact. Raises `InputError` for an unknown budget, or without
    any seed.
    """
    check_options(budget, "ball", seeds)
    start = time.perf_counter()
    setting = settings(budget, seeds)
    use_every_core()
    rows: list[dict[str, Any]] = []
    with jax.enable_x64(True):
        for count in setting.distractors:
            for seed in range(1, setting.seeds + 1):
                rows += _cell(task(seed, count), count, seed, setting)
            if say is not None:
                say(f"{count} distracting states: {setting.seeds} MDPs")
    figure = _draw(rows, setting, budget)
    record = {
        "figure": "phase",
        "budget": budget,
        "settings": setting._asdict(),
        "wall_clock_seconds": round(time.perf_counter() - start, 2),
    }
    return save(figure, out, "phase", rows, record)


def task(seed: int, distractors: int) -> MDP:
    """A random MDP whose states are pairs of a state that matters and one that doesn't: the latter
    goes round a cycle, whatever is done."""
    inner = garnet(seed, STATES, ACTIONS, SUCCESSORS, discount=DISCOUNT)
    transition = (1 - NOISE) * np.asarray(inner.transition) + NOISE / STATES
    mdp = MDP(transition, inner.reward, inner.discount)
    cycle = REGULARITY * np.roll(np.eye(distractors), 1, axis=1) + (1 - REGULARITY) / distractors
    return with_distractors(mdp, cycle)


def true_model(mdp: MDP) -> Model:
    """θ of the true MDP with the least norm: centred logits."""
    logits = jnp.log(jnp.asarray(mdp.transition))
    return Model(logits - logits.mean(axis=-1, keepdims=True), mdp.reward)


def _cell(mdp: MDP, count: int, seed: int, setting: Settings) -> Iterator[dict[str, Any]]:
    """The lanes of one MDP: every bound, every objective."""
    lanes = len(setting.bounds)
    theta, q = uniform_starts(jnp.full(lanes, seed), *mdp.reward.shape)
    start = Lanes(theta, q, jnp.asarray(setting.bounds), jnp.full(lanes, seed))
    truth = true_model(mdp)
    norm = float(jnp.sqrt(sum(jnp.sum(jnp.square(x)) for x in truth)))
    for label, objective in OBJECTIVES.items():
        design = Design(mdp, objective)
        end = descend(design, start, max_steps=setting.max_steps)
        blank = jnp.zeros_like(mdp.reward)
        worst, best = (
            float(design.expected_return(one)) for one in (blank, design.solution(truth, blank))
        )
        status = statuses(end.status)
        for i, bound in enumerate(setting.bounds):
            reached = float(end.expected_return[i])
            yield {
                "objective": label,
                "distractors": count,
                "norm_bound": bound,
                "seed": seed,
                "score": (reached - worst) / (best - worst),
                "expected_return": reached,
                "uniform_return": worst,
                "optimal_return": best,
                "true_norm": norm,
                "steps": int(end.steps[i]),
                "status": str(status[i]),
            }


def table(rows: list[dict[str, Any]], setting: Settings, label: str) -> np.ndarray:
    """Scores [bounds, distractors, seeds] of an objective."""
    scores = {
        (r["norm_bound"], r["distractors"], r["seed"]): r["score"]
        for r in rows
        if r["objective"] == label
    }
    seeds = range(1, setting.seeds + 1)
    return np.asarray(
        [[[scores[b, d, s] for s in seeds] for d in setting.distractors] for b in setting.bounds]
    )


@styled
def _draw(rows: list[dict[str, Any]], setting: Settings, budget: str) -> Figure:
    figure = new_figure(9.6, 3.9)
    mle, omd = (table(rows, setting, label) for label in ("MLE", "OMD"))
    norms = [
        np.mean([r["true_norm"] for r in rows if r["distractors"] == d])
        for d in setting.distractors
    ]
    panels = {
        "MLE's score": (mle, "viridis", (0, 1)),
        "OMD's score": (omd, "viridis", (0, 1)),
        "what decision-awareness adds": (omd - mle, "RdBu_r", (-0.6, 0.6)),
    }
    for place, (title, (scores, colours, limits)) in enumerate(panels.items()):
        axes = figure.add_axes((0.065 + 0.318 * place, 0.27, 0.245, 0.62))
        _panel(axes, scores, colours, limits, setting, norms)
        axes.set_title(title, fontsize=9, loc="left")
        if place == 0:
            axes.set_ylabel("capacity: bound κ on the model's norm", fontsize=9)
    caption(
        figure,
        "Score: return of the learned model's policy, 0 the uniform policy's, 1 the best; mean "
        f"over {setting.seeds} random MDPs of {STATES} states and {ACTIONS} actions, to which a "
        "factor is added that only goes round a cycle; right: ± standard error of the difference. "
        "OMD descends the true Bellman error (eq. 6), MLE the divergence, both with exact "
        f"gradients and {setting.max_steps} steps of Adam. Dashed: the norm of the true model, "
        "from which on MLE's has no error.",
    )
    watermark(figure, budget)
    return figure


def _panel(
    axes: Axes,
    scores: np.ndarray,
    colours: str,
    limits: tuple[float, float],
    setting: Settings,
    norms: list[Any],
) -> None:
    mean = scores.mean(axis=2)
    axes.imshow(mean, cmap=colours, vmin=limits[0], vmax=limits[1], origin="lower", aspect="auto")
    axes.grid(visible=False)
    difference = limits[0] < 0
    error = scores.std(axis=2, ddof=1) / np.sqrt(scores.shape[2]) if scores.shape[2] > 1 else None
    for i, j in np.ndindex(*mean.shape):
        shown = round(float(mean[i, j]), 2) + 0.0  # no -0.00
        text = f"{shown:+.2f}" if difference else f"{shown:.2f}"
        if difference and error is not None:
            text += f"\n±{error[i, j]:.2f}"
        dark = abs(mean[i, j]) > 0.45 if difference else mean[i, j] < 0.5
        axes.text(j, i, text, ha="center", va="center", fontsize=7, color="w" if dark else "k")
    places = np.arange(len(setting.bounds))
    first, *_, last = np.log(setting.bounds)
    axes.plot(
        np.arange(len(norms)),
        (np.log(norms) - first) / (last - first) * places[-1],  # bounds are a geometric sequence
        color="k",
        linestyle=(0, (4, 2)),
        linewidth=1.2,
        marker=".",
    )
    axes.set_ylim(-0.5, places[-1] + 0.5)
    axes.set_xticks(range(len(setting.distractors)), [str(d) for d in setting.distractors])
    axes.set_yticks(places, [f"{b:.3g}" for b in setting.bounds])
    axes.tick_params(labelsize=8)
    axes.set_xlabel("states of the distractor", fontsize=9)
