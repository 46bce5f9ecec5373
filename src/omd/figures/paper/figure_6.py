"""Figure 6: returns of OMD where Gaussian noise is added to every inner solution (appendix C)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree
from matplotlib.figure import Figure

from omd.figures.curves import draw_standard_error
from omd.figures.paper.bounded import TEMPERATURE, statuses, use_every_core
from omd.figures.style import (
    Progress,
    caption,
    check_options,
    new_figure,
    save,
    styled,
    watermark,
)
from omd.implicit import AbstractMethod, Report
from omd.implicit.report import of_approximation
from omd.implicit.trees import Product
from omd.tabular import paper_mdp
from omd.tabular.design.descent import Designed, descend, uniform_starts
from omd.tabular.design.formulation import BELLMAN_ERROR, Design
from omd.tabular.design.parallel import Lanes
from omd.tabular.elimination import Elimination

HYPERGRADIENTS = ("exact", "identity")


class ExactOrIdentity(AbstractMethod):
    """u = (∂h/∂w)⁻ᵀ g in one lane, u = g in another, of one program."""

    exact: Bool[Array, " ..."]

    def solve(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        exact, _ = Elimination().solve(vjp, g)
        u = jax.tree.map(lambda x, y: jnp.where(self.exact, x, y), exact, g)
        return u, of_approximation(vjp, u, g, 0, check=check)


class Settings(NamedTuple):
    """What a budget buys; `paper` is appendix C with what the authors' program adds."""

    noise: tuple[float, ...]
    seeds: int
    max_steps: int


def settings(budget: str, seeds: int) -> Settings:
    if budget == "smoke":
        return Settings(tuple(np.logspace(-3, 0.5, 4).tolist()), min(seeds, 2), 200)
    return Settings(tuple(np.logspace(-3, 0.5, 30).tolist()), seeds, 10_000)


def make(
    out: Path,
    *,
    budget: str = "paper",
    projection: str = "ball",
    seeds: int = 10,
    say: Progress | None = None,
) -> list[Path]:
    """Writes figure-6.png, .pdf, .csv and .json into `out`; returns their paths.

    Appendix C bounds no norm, so nothing is projected here. `projection` chooses the coordinates
    only: logits divided by the temperature as in the authors' program (`reference`), or the
    effective logits themselves (`ball`), which Adam's steps move a hundred times less.

    Raises `InputError` for an unknown budget or projection, or without any seed.
    """
    check_options(budget, projection, seeds)
    start = time.perf_counter()
    setting = settings(budget, seeds)
    use_every_core()
    grid = [(method, sigma) for method in HYPERGRADIENTS for sigma in setting.noise]
    exact = np.repeat([method == "exact" for method, _ in grid], setting.seeds)
    sigma = np.repeat([sigma for _, sigma in grid], setting.seeds)
    seed = np.tile(np.arange(1, setting.seeds + 1), len(grid))
    with jax.enable_x64(True):
        end = _run(exact, sigma, seed, setting, projection)
    status = statuses(np.asarray(end.status))
    if say is not None:
        say(f"OMD: {int(np.sum(status != 'non_finite'))} of {len(status)} lanes are finite")
    rows = [
        {
            "hypergradient": HYPERGRADIENTS[0] if exact[i] else HYPERGRADIENTS[1],
            "sigma": float(sigma[i]),
            "seed": int(seed[i]),
            "expected_return": float(end.noisy_return[i]),
            "expected_return_without_noise": float(end.expected_return[i]),
            "steps": int(end.steps[i]),
            "status": str(status[i]),
        }
        for i in range(len(exact))
    ]
    figure = _draw(exact, sigma, seed, np.asarray(end.noisy_return), setting, budget, projection)
    record = {
        "figure": 6,
        "budget": budget,
        "projection": projection,
        "settings": setting._asdict(),
        "wall_clock_seconds": round(time.perf_counter() - start, 2),
    }
    return save(figure, out, "figure-6", rows, record)


def _run(
    exact: np.ndarray, sigma: np.ndarray, seed: np.ndarray, setting: Settings, projection: str
) -> Designed:
    mdp = paper_mdp()
    scale = TEMPERATURE if projection == "reference" else 1.0
    design = Design(mdp, BELLMAN_ERROR, logit_temperature=scale)
    theta, q = uniform_starts(jnp.asarray(seed), *mdp.reward.shape)
    lanes = Lanes(
        theta,
        q,
        jnp.full(len(seed), jnp.inf),
        jnp.asarray(seed),
        jnp.asarray(sigma),
        ExactOrIdentity(jnp.asarray(exact)),
    )
    free = _unprojected
    end = descend(design, lanes, projection=free, max_steps=setting.max_steps)
    return jax.tree.map(np.asarray, end)


def _unprojected(theta, norm_bound):
    return theta


@styled
def _draw(
    exact: np.ndarray,
    sigma: np.ndarray,
    seed: np.ndarray,
    returns: np.ndarray,
    setting: Settings,
    budget: str,
    projection: str,
) -> Figure:
    figure = new_figure(5.0, 3.8)
    axes = figure.add_subplot()
    names = {"exact": "inverse Jacobian", "identity": "identity in its place"}
    for label, chosen in (("exact", exact), ("identity", ~exact)):
        draw_standard_error(
            axes, sigma[chosen], seed[chosen], returns[chosen], label, name=names[label]
        )
    axes.set_xscale("log")
    axes.set_xlim(min(setting.noise), max(setting.noise))
    axes.set_xlabel("noise σ on the inner solutions")
    axes.set_ylabel("expected return J")
    axes.legend(loc="lower left")
    coordinates = "logits / 0.01" if projection == "reference" else "effective logits"
    axes.set_title(
        f"OMD with noisy inner solutions — no projection, {coordinates}", fontsize=9, loc="left"
    )
    caption(
        figure,
        "Adam on the Bellman error from random starts, without a norm bound (the paper has none "
        f"here), in the coordinates of “{projection}”: {coordinates}. J of the policy after "
        f"{setting.max_steps} steps, the last draw of the noise included. Lines: mean over "
        f"{setting.seeds} seeds; bands: standard error.",
    )
    figure.tight_layout(rect=(0, 0.11, 1, 1))
    watermark(figure, budget)
    return figure
