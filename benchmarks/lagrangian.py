"""Implicit differentiation beside the Lagrangian route on the paper's MDP.

    python benchmarks/lagrangian.py [--out results/tabular/lagrangian.csv] [--seeds 10]

Both solve eq. (2) and eq. (6) from the same starts, with Adam at 0.01, at most 10 000 steps and
the same test of convergence. Prints one line a route, and the ratio of their times.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from omd.figures.paper.bounded import statuses
from omd.tabular import paper_mdp
from omd.tabular.design.descent import descend, uniform_starts
from omd.tabular.design.formulation import BELLMAN_ERROR, RETURN, Design
from omd.tabular.design.lagrangian import find_saddle
from omd.tabular.design.parallel import Lanes

TOLERANCE = 1e-6
SETTINGS = {
    "no bound, logits / 0.01": (0.01, np.inf),
    "ball of 3, effective logits": (1.0, 3.0),
}


def timed(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """(result, seconds of the first call, seconds of the second, which compiles nothing)."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        end = jax.block_until_ready(run())
        seconds.append(time.perf_counter() - start)
    return end, *seconds


def measure(seeds: int) -> pd.DataFrame:
    """One row a setting, objective, route and seed."""
    frames = []
    seed = jnp.arange(1, seeds + 1)
    theta, q = uniform_starts(seed, 2, 2)
    for setting, (logit_temperature, bound) in SETTINGS.items():
        lanes = Lanes(theta, q, jnp.full(seeds, bound), seed)
        for objective in (BELLMAN_ERROR, RETURN):
            design = Design(paper_mdp(), objective, logit_temperature=logit_temperature)
            for name, route in (("implicit", descend), ("lagrangian", find_saddle)):
                end, first, seconds = timed(partial(route, design, lanes, tolerance=TOLERANCE))
                implicit = name == "implicit"
                columns = {
                    "setting": setting,
                    "objective": objective.name,
                    "route": name,
                    "seed": seed,
                    "expected_return": end.expected_return,
                    "model_return": end.expected_return if implicit else end.model_return,
                    "loss": end.loss,
                    "violation": np.zeros(seeds) if implicit else end.violation,
                    "steps": end.steps,
                    "status": statuses(end.status),
                    "seconds_for_all_seeds": seconds,
                    "seconds_to_compile": first - seconds,
                }
                frames.append(pd.DataFrame(_plain(columns)))
    return pd.concat(frames, ignore_index=True)


def _plain(columns: dict[str, Any]) -> dict[str, Any]:
    return {k: v if isinstance(v, str | float) else np.asarray(v) for k, v in columns.items()}


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a route: means over seeds, the worst violation, converged runs, times."""
    groups = rows.groupby(["setting", "objective", "route"], sort=False)
    return groups.agg(
        J_mean=("expected_return", "mean"),
        J_worst=("expected_return", "min"),
        J_of_model_mean=("model_return", "mean"),
        worst_violation=("violation", "max"),
        median_steps=("steps", "median"),
        converged=("status", lambda status: int((status == "converged").sum())),
        seconds=("seconds_for_all_seeds", "first"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/tabular/lagrangian.csv"))
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    with jax.enable_x64(True):
        rows = measure(options.seeds)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows.to_csv(options.out, index=False)
    table = summary(rows)
    print(table.to_string(float_format=lambda x: f"{x:.4g}"))
    for where, group in table.groupby(["setting", "objective"], sort=False):
        ratio = group.xs("lagrangian", level="route").seconds.item()
        ratio /= group.xs("implicit", level="route").seconds.item()
        print(f"{', '.join(where)}: the Lagrangian route takes {ratio:.2f} times as long")


if __name__ == "__main__":
    main()
