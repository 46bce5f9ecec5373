"""The runs behind figures 2 and 3: OMD and MLE under every norm bound, κ × seeds as lanes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from omd.figures.style import Progress
from omd.implicit import Status
from omd.tabular import paper_mdp
from omd.tabular.design.descent import Designed, descend, uniform_starts
from omd.tabular.design.formulation import LIKELIHOOD, RETURN, Design, Objective
from omd.tabular.design.parallel import Lanes, cheaply
from omd.tabular.design.projection import Model, reference
from omd.tabular.design.stationary import Stationary, find_stationary, spread_starts

TEMPERATURE = 0.01
MAX_STEP = 2 * TEMPERATURE
"""Longest step of θ for J on the ball: at this temperature J is flat but for a narrow band."""


class Settings(NamedTuple):
    """What a budget buys; `paper` is section 4.2 with what the authors' program adds."""

    bounds: tuple[float, ...]
    seeds: int
    max_steps: int
    starts: int = 4
    tolerance: float = 1e-8
    """Of the projected gradient's norm; for `ball`."""


def settings(budget: str, seeds: int) -> Settings:
    if budget == "smoke":
        return Settings(tuple(np.linspace(0, 6, 5).tolist()), min(seeds, 2), 200)
    return Settings(tuple(np.linspace(0, 6, 20).tolist()), seeds, 10_000)


class Runs(NamedTuple):
    """All lanes of one objective, bound by bound; arrays with the lane axis, on the host."""

    design: Design
    bound: np.ndarray
    seed: np.ndarray
    theta: Model
    q: np.ndarray
    expected_return: np.ndarray
    columns: dict[str, np.ndarray]
    """What else is known of each lane, by the names it has in the CSV."""

    def rows(self, label: str, **measured: np.ndarray) -> Iterator[dict[str, Any]]:
        """CSV rows: the required columns first, `measured` in its order, then the rest."""
        columns = {**measured, **self.columns}
        for i, (bound, seed) in enumerate(zip(self.bound, self.seed, strict=True)):
            if not np.isfinite(bound):
                continue
            first = {"objective": label, "norm_bound": float(bound), "seed": int(seed)}
            yield {**first, **{name: column[i].item() for name, column in columns.items()}}


def use_every_core() -> None:
    """One JAX device a core, for lanes to spread over; no effect once JAX has started."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    # refused by a JAX that has its devices already: the lanes then run on those
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", min(cores, 8))


class Truth(NamedTuple):
    """The paper's MDP, solved."""

    q: np.ndarray
    expected_return: float


def solve_truth() -> Truth:
    """Q* and J of its softmax policy, at the paper's temperature."""
    mdp = paper_mdp()
    design = Design(mdp, RETURN)
    theta = Model(jnp.asarray(np.log(np.asarray(mdp.transition))), mdp.reward)

    @partial(jax.jit, compiler_options=cheaply(0))
    def solve(theta: Model) -> tuple[jax.Array, jax.Array]:
        q = design.solution(theta, jnp.zeros_like(theta.reward))
        return q, design.expected_return(q)

    q, value = solve(theta)
    return Truth(np.asarray(q), float(value))


def run_both(
    omd: Objective,
    projection: str,
    setting: Settings,
    say: Progress | None,
) -> tuple[dict[str, Runs], Truth]:
    """({"OMD": runs, "MLE": runs}, the truth); OMD with the objective given.

    With the reference projection one lane more comes last, without a bound; `rows` skips it.
    """
    use_every_core()
    run = _reference if projection == "reference" else _ball
    labels = {"OMD": omd, "MLE": LIKELIHOOD}

    def job(label: str) -> Runs:
        with jax.enable_x64(True):
            runs = run(labels[label], setting)
        if say is not None:
            finite = np.isfinite(runs.bound)
            converged = int(np.sum(runs.columns["status"][finite] == "converged"))
            say(f"{label}: {converged} of {int(finite.sum())} lanes converged")
        return runs

    # in threads, so that one compiles while another runs
    with ThreadPoolExecutor() as pool, jax.enable_x64(True):
        both = {label: pool.submit(job, label) for label in labels}
        truth = solve_truth()
        return {label: runs.result() for label, runs in both.items()}, truth


def describe(projection: str, runs: dict[str, Runs], setting: Settings) -> str:
    """The small print: what the projection is, how many lanes converged, what the lines are."""
    status = np.concatenate(
        [run.columns["status"][np.isfinite(run.bound)] for run in runs.values()]
    )
    count = f"{int(np.sum(status == 'converged'))} of {len(status)} runs"
    lines = f"Lines: mean over {setting.seeds} seeds; faint lines: single seeds."
    if projection == "reference":
        return (
            "Projection of the published figure: after each Adam step, logits and reward each by "
            "itself; not the ball of the paper's text. "
            f"{count} settled within {setting.max_steps} steps. {lines}"
        )
    return (
        "Projection of the paper's text: one ball, ‖(effective logits, reward)‖ ≤ κ. "
        f"{count} are stationary on it to {setting.tolerance:g} "
        f"(norm of the projected gradient), each the best of {setting.starts} starts. {lines}"
    )


def _lanes(setting: Settings) -> tuple[np.ndarray, np.ndarray]:
    bound = np.repeat(np.asarray(setting.bounds), setting.seeds)
    # from 1 on, as the authors' seeds
    return bound, np.tile(np.arange(1, setting.seeds + 1), len(setting.bounds))


def _reference(objective: Objective, setting: Settings) -> Runs:
    """Adam with a projection after each step, in the coordinates of the authors' program."""
    design = Design(paper_mdp(), objective, logit_temperature=TEMPERATURE)
    bound, seed = (np.append(x, last) for x, last in zip(_lanes(setting), (np.inf, 1), strict=True))
    theta, q = uniform_starts(jnp.asarray(seed), *design.mdp.reward.shape)
    lanes = Lanes(theta, q, jnp.asarray(bound), jnp.asarray(seed))
    project = partial(reference, temperature=TEMPERATURE)
    end = descend(design, lanes, projection=project, max_steps=setting.max_steps)
    return _runs(design, bound, seed, end)


def _ball(objective: Objective, setting: Settings) -> Runs:
    """Stationary points on the ball, in effective logits, the best of several starts."""
    design = Design(paper_mdp(), objective)
    bound, seed = _lanes(setting)
    theta, q = spread_starts(seed, bound, setting.starts, *design.mdp.reward.shape)
    lanes = Lanes(theta, jnp.asarray(q), jnp.asarray(bound), jnp.asarray(seed))
    end = find_stationary(
        design,
        lanes,
        tolerance=setting.tolerance,
        max_step_length=MAX_STEP if objective is RETURN else np.inf,
    )
    certificate: dict[str, ArrayLike] = {
        "projected_gradient_residual": end.residual,
        "tolerance": np.full(len(bound), setting.tolerance),
        "norm": jnp.sqrt(sum(jnp.sum(x**2, axis=range(1, x.ndim)) for x in end.theta)),
        "starts": np.full(len(bound), setting.starts),
        "starts_converged": end.starts_converged,
        "starts_agreeing": end.starts_agreeing,
    }
    return _runs(design, bound, seed, end, **certificate)


def _runs(
    design: Design,
    bound: np.ndarray,
    seed: np.ndarray,
    end: Designed | Stationary,
    **more: ArrayLike,
) -> Runs:
    columns = {"loss": end.loss, "steps": end.steps, "status": statuses(end.status), **more}
    return Runs(
        design,
        bound,
        seed,
        end.theta,
        np.asarray(end.q),
        np.asarray(end.expected_return),
        {name: np.asarray(column) for name, column in columns.items()},
    )


def statuses(codes: ArrayLike) -> np.ndarray:
    """`implicit.Status` codes as the words of the CSV."""
    return np.asarray([Status(int(code)).name.lower() for code in np.asarray(codes)])
