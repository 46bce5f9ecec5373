"""Rust's (1987) bus engine: how long a fit and its scores take, and how often intervals hold.

    python benchmarks/rust.py                         # seconds, 90 and 1 000 bins
    python benchmarks/rust.py coverage --panels 1000  # of two standard errors, by kind of error

`times` fits a panel of 8 000 observations from a far start, then other panels of the same shape:
compilation is in the first only. `coverage` simulates panels from the published parameters of
group 4 and counts how often each parameter lies within two standard errors, with Clopper and
Pearson's interval of that share. Rows go to --out as they come; a run goes on where the file ends.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.stats import beta, norm

from omd import tabular
from omd.runs.provenance import made_with
from omd.tabular import estimation

GROUP = estimation.TABLE_IX["group 4"]
TRUTH = np.asarray([GROUP.replacement_cost, GROUP.cost])
START = [5.0, 1.0]
KINDS = ("hessian", "bhhh", "sandwich")
NAMES = ("RC", "θ11")


def model_with(bins: int) -> tuple[Any, np.ndarray]:
    """(model, true parameters); a bin is as many miles as `bins` leave, and costs stay the same."""
    cost = TRUTH * np.asarray([1.0, 90 / bins])
    return estimation.bus_engine(GROUP.moves, bins=bins), cost


def times(options: argparse.Namespace) -> None:
    print(f"{'bins':>6s}{'first fit':>11s}{'later fits':>12s}{'iterations':>12s}{'scores':>9s}")
    for bins in options.bins:
        model, truth = model_with(bins)
        policy = tabular.solve(model(truth), 1.0).policy
        fits, scores = [], []
        for seed in range(options.repeats + 1):
            panel = estimation.simulate(model(truth), policy, 80, 100, seed=seed)
            start = time.perf_counter()
            found = estimation.estimate(model, panel, np.asarray(START) * truth / TRUTH)
            fits.append(time.perf_counter() - start)
            assert found.converged, found.message
            start = time.perf_counter()
            each = jax.block_until_ready(estimation.scores(model, found.theta, panel))
            scores.append(time.perf_counter() - start)
            assert np.isfinite(each).all()
        print(
            f"{bins:6d}{fits[0]:11.2f}{min(fits[1:]):12.4f}{found.iterations:12d}"
            f"{min(scores[1:]):9.4f}",
            flush=True,
        )


def coverage(options: argparse.Namespace) -> None:
    model, _ = model_with(90)
    policy = np.asarray(tabular.solve(model(TRUTH), 1.0).policy)
    fields = ["seed", *NAMES, *(f"{name} {kind}" for kind in KINDS for name in NAMES)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if not options.out.exists():
        options.out.write_text(",".join(fields) + "\n", encoding="utf-8")
    with options.out.open(encoding="utf-8", newline="") as file:
        done = {int(row["seed"]) for row in csv.DictReader(file)}
    with options.out.open("a", encoding="utf-8", newline="") as file:
        for seed in sorted(set(range(options.panels)) - done):
            panel = estimation.simulate(model(TRUTH), policy, 74, 118, seed=seed)
            found = estimation.estimate(model, panel, START)
            assert found.converged, f"seed {seed}: {found.message}"
            errors = [x for kind in KINDS for x in found.standard_errors(kind)]
            print(seed, *(f"{x:.8g}" for x in (*found.theta, *errors)), sep=",", file=file)
            file.flush()
    report(options.out)


def report(path: Path) -> None:
    """Shares of panels with the truth inside, with 95 % intervals, and why they may be off."""
    table = np.genfromtxt(path, delimiter=",", skip_header=1, encoding="utf-8")
    theta, errors = table[:, 1:3], table[:, 3:].reshape(-1, len(KINDS), 2)
    count = len(theta)
    print(f"{count} panels of 74 buses and 118 months; nominal {1 - 2 * norm.sf(2):.4f}")
    for k, name in enumerate(NAMES):
        off = theta[:, k] - TRUTH[k]
        spread = off.std(ddof=1)
        print(
            f"{name}: bias {off.mean():+.4f} ± {spread / np.sqrt(count):.4f}, "
            f"standard deviation {spread:.4f}, skewness {(off**3).mean() / spread**3:+.2f}"
        )
        for j, kind in enumerate(KINDS):
            z = off / errors[:, j, k]
            inside = int((np.abs(z) <= 2).sum())
            low = beta.ppf(0.025, inside, count - inside + 1)
            high = beta.ppf(0.975, inside + 1, count - inside) if inside < count else 1.0
            print(
                f"  {kind:9s} {inside}/{count} = {inside / count:.4f} ({low:.4f} to {high:.4f}), "
                f"mean error {errors[:, j, k].mean():.4f}, below {int((z < -2).sum())}, "
                f"above {int((z > 2).sum())}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=("times", "coverage", "report"), default="times")
    parser.add_argument("--bins", type=int, nargs="+", default=[90, 1000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--panels", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("results/tabular/rust-coverage.csv"))
    options = parser.parse_args()
    machine = made_with()
    print(f"{machine['processor']}, JAX {machine['versions']['jax']}, {machine['device']}")
    {"times": times, "coverage": coverage, "report": lambda o: report(o.out)}[options.part](options)


if __name__ == "__main__":
    main()
