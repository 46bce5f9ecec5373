"""Ours beside QuantEcon, mdpsolver, jaxdp and pymdptoolbox, to one certified residual.

    python benchmarks/mdp_solvers.py                                     # the table of the docs
    python benchmarks/mdp_solvers.py --states 1000 --discount 0.9 --repeats 1     # a quick look
    python benchmarks/mdp_solvers.py memory --states 10000000

A cell is a family, a size, a discount and an operator. All solvers of a cell run one after another,
each in a process of its own, on the same arrays; each must reach ‖v − Bv‖∞ ≤ tolerance · ‖v‖∞,
measured by the same NumPy code, or the cell says what it reached. Time is the best of some
runs after a first one (compilation apart); memory is the peak of the process less that after
building the arrays. What is not installed is left out (madupite, which needs PETSc, is not
wired). Pin the cores from outside. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Tables = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Successors [S, A, K], their probabilities, rewards [S, A]."""

FAMILIES = ("garnet", "grid", "inventory", "rust")
DENSE_LIMIT = 3000
"""States above which solvers that take dense arrays only are left out."""


def build(family: str, states: int) -> Tables:
    """One problem as plain arrays, the same for all solvers."""
    if family == "garnet":
        rng = np.random.default_rng(0)
        index = np.sort(rng.integers(states, size=(states, 4, 10)), axis=-1)
        cuts = np.sort(rng.random((states, 4, 9)), axis=-1)
        return index, np.diff(cuts, axis=-1, prepend=0.0, append=1.0), rng.random((states, 4))
    if family == "grid":
        side = math.isqrt(states)
        cell = np.arange(side * side)
        moves = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])
        y, x = (np.clip(c[:, None] + m, 0, side - 1) for c, m in
                zip(np.divmod(cell, side), moves.T, strict=True))  # fmt: skip
        target = y * side + x
        target[-1] = cell[-1]
        index = np.stack([target, np.roll(target, 1, 1), np.roll(target, -1, 1)], axis=-1)
        weight = np.broadcast_to([0.8, 0.1, 0.1], index.shape).copy()
        reward = ((index == cell[-1]) * weight).sum(-1)
        reward[-1] = 0
        return index, weight, reward
    if family == "inventory":
        orders, demand = np.arange(8) * max(1, states // 32), np.arange(10)
        stock = np.minimum(np.arange(states)[:, None] + orders, states - 1)
        sold = np.minimum(stock[..., None], demand * max(1, states // 16))
        weight = np.broadcast_to(np.full(10, 0.1), sold.shape).copy()
        cost = 0.5 * (orders > 0) + 0.2 * orders * 32 / states + 0.02 * stock * 32 / states
        return stock[..., None] - sold, weight, (sold * 32 / states).mean(-1) - cost
    if family == "rust":
        steps = np.arange(3)
        keep = np.minimum(np.arange(states)[:, None] + steps, states - 1)
        index = np.stack([keep, np.broadcast_to(steps, keep.shape)], axis=1)
        weight = np.broadcast_to([0.3919, 0.5953, 0.0128], index.shape).copy()
        cost = 0.001 * 2.2930 * 90 / states * np.arange(states)
        return index, weight, np.stack([-cost, np.full(states, -10.0750)], axis=1)
    raise ValueError(family)


def look_ahead(tables: Tables, discount: float, v: np.ndarray) -> np.ndarray:
    index, weight, reward = tables
    ahead = np.zeros_like(reward)
    for k in range(index.shape[-1]):
        ahead += weight[..., k] * v[index[..., k]]
    return reward + discount * ahead


def residual(tables: Tables, discount: float, temperature: float, v: np.ndarray) -> float:
    """‖v − Bv‖∞ / ‖v‖∞, hard where the temperature is 0."""
    q = look_ahead(tables, discount, v)
    top = q.max(axis=-1)
    image = top
    if temperature:
        image = top + temperature * np.log(np.exp((q - top[:, None]) / temperature).sum(-1))
    return float(np.abs(v - image).max() / np.abs(v).max())


Solve = Callable[[], np.ndarray]


def ours(method: str) -> Callable[..., Solve]:
    def prepare(tables: Tables, discount: float, temperature: float, tolerance: float) -> Solve:
        import jax

        from omd import tabular

        jax.config.update("jax_enable_x64", True)
        index, weight, reward = tables
        mdp = tabular.MDP(tabular.Successors(index.astype(np.int32), weight), reward, discount)
        operator = "soft" if temperature else "hard"
        scale = float(np.abs(reward).max())

        def solve() -> np.ndarray:
            solution = tabular.solve(
                mdp, temperature or 1.0, operator=operator, method=method,
                tolerance=tolerance * scale,
            )  # fmt: skip
            return np.asarray(solution.v)

        return solve

    return prepare


def quantecon(method: str) -> Callable[..., Solve]:
    def prepare(tables: Tables, discount: float, temperature: float, tolerance: float) -> Solve:
        import scipy.sparse
        from quantecon.markov import DiscreteDP

        index, weight, reward = tables
        states, actions, width = weight.shape
        pairs = states * actions
        matrix = scipy.sparse.csr_matrix(
            (weight.ravel().copy(), index.ravel().copy(), np.arange(0, pairs * width + 1, width)),
            shape=(pairs, states),
        )
        matrix.sum_duplicates()
        problem = DiscreteDP(reward.ravel(), matrix, discount, *np.divmod(range(pairs), actions))
        epsilon = tolerance * float(np.abs(reward).max()) / (1 - discount)
        return lambda: problem.solve(method, epsilon=epsilon, max_iter=10**7).v

    return prepare


def mdpsolver(method: str) -> Callable[..., Solve]:
    def prepare(tables: Tables, discount: float, temperature: float, tolerance: float) -> Solve:
        import mdpsolver as package

        index, weight, reward = tables
        model = package.model()
        model.mdp(
            discount=discount,
            rewards=reward.tolist(),
            tranMatProbs=weight.tolist(),
            tranMatColumns=index.tolist(),
        )
        epsilon = tolerance * float(np.abs(reward).max()) / (1 - discount)

        def solve() -> np.ndarray:
            model.solve(algorithm=method, tolerance=epsilon, initValueVector=[0.0] * len(reward))
            return np.asarray(model.getValueVector())

        return solve

    return prepare


def jaxdp(method: str) -> Callable[..., Solve]:
    def prepare(tables: Tables, discount: float, temperature: float, tolerance: float) -> Solve:
        import chex
        import jax
        import jax.numpy as jnp
        import jaxdp as package

        chex.disable_asserts()  # those of values refuse to run under jit

        jax.config.update("jax_enable_x64", True)
        dense = _dense(tables)
        states = len(dense)
        rows = jnp.asarray(dense.transpose(1, 2, 0))  # [A, S', S]
        reward = jnp.asarray(np.broadcast_to(tables[2].T[..., None], rows.shape))
        mdp = package.MDP(
            transition=rows, reward=reward, initial=jnp.full(states, 1 / states),
            terminal=jnp.zeros(states, bool),
        )  # fmt: skip
        way = getattr(package, method)(gamma=discount)
        goal = tolerance * float(np.abs(tables[2]).max())
        exact = method == "PolicyIteration"

        @jax.jit
        def run():
            state = (
                way.init(mdp, jnp.full(tables[2].T.shape, 1 / tables[2].shape[1]))
                if exact
                else way.init(mdp)
            )

            def unfinished(carry):
                return carry[1] > goal

            def once(carry):
                state, _ = carry
                after = way.update(mdp, state)
                return after, jnp.abs(after.v_val - state.v_val).max()

            return jax.lax.while_loop(unfinished, once, (state, jnp.inf))[0].v_val

        return lambda: np.asarray(run())

    return prepare


def mdptoolbox(method: str) -> Callable[..., Solve]:
    def prepare(tables: Tables, discount: float, temperature: float, tolerance: float) -> Solve:
        import scipy.sparse
        from mdptoolbox import mdp as package

        index, weight, reward = tables
        states, actions, width = weight.shape
        matrices = [
            scipy.sparse.csr_matrix(
                (
                    weight[:, a].ravel(),
                    index[:, a].ravel(),
                    np.arange(0, states * width + 1, width),
                ),
                shape=(states, states),
            )
            for a in range(actions)
        ]
        settings: dict[str, Any] = {}
        if method != "PolicyIteration":
            settings["epsilon"] = tolerance * float(np.abs(reward).max()) / (1 - discount)
        if method == "ValueIteration":
            settings["max_iter"] = 10**7

        def solve() -> np.ndarray:
            program = getattr(package, method)(matrices, reward, discount, **settings)
            program.run()
            return np.asarray(program.V)

        return solve

    return prepare


def _dense(tables: Tables) -> np.ndarray:
    index, weight, _ = tables
    states, actions, _ = weight.shape
    dense = np.zeros((states, actions, states))
    s, a = np.ogrid[:states, :actions]
    np.add.at(dense, (s[..., None], a[..., None], index), weight)
    return dense


SOLVERS: dict[str, tuple[str, Callable[..., Solve], bool]] = {
    # name: (package, preparation, whether it takes dense arrays only)
    "omd modified policy iteration": ("omd-rl", ours("modified_policy_iteration"), False),
    "omd inexact policy iteration": ("omd-rl", ours("inexact_policy_iteration"), False),
    "quantecon value iteration": ("quantecon", quantecon("value_iteration"), False),
    "quantecon modified policy iteration": (
        "quantecon", quantecon("modified_policy_iteration"), False,
    ),
    "quantecon policy iteration": ("quantecon", quantecon("policy_iteration"), False),
    "mdpsolver mpi": ("mdpsolver", mdpsolver("mpi"), False),
    "mdpsolver pi": ("mdpsolver", mdpsolver("pi"), False),
    "mdpsolver vi": ("mdpsolver", mdpsolver("vi"), False),
    "jaxdp value iteration": ("jaxdp", jaxdp("ValueIteration"), True),
    "jaxdp policy iteration": ("jaxdp", jaxdp("PolicyIteration"), True),
    "pymdptoolbox value iteration": ("pymdptoolbox", mdptoolbox("ValueIteration"), False),
    "pymdptoolbox policy iteration": ("pymdptoolbox", mdptoolbox("PolicyIteration"), True),
    "pymdptoolbox modified": ("pymdptoolbox", mdptoolbox("PolicyIterationModified"), False),
}  # fmt: skip
SOFT = ("omd modified policy iteration", "omd inexact policy iteration")


def case(name: str, family: str, states: int, discount: float, temperature: float,
         tolerance: float, repeats: int) -> dict[str, Any]:  # fmt: skip
    """One solver on one cell, in this process."""
    tables = build(family, states)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    solve = SOLVERS[name][1](tables, discount, temperature, tolerance)
    start = time.perf_counter()
    v = solve()
    times = [time.perf_counter() - start]
    first = times[0]
    for _ in range(repeats):
        start = time.perf_counter()
        v = solve()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "first": first,
        "seconds": min(times),
        "memory_gb": (peak - before) / 1e6,
        "residual": residual(tables, discount, temperature, np.asarray(v, float)),
    }


def ask(limit: float, **settings: Any) -> dict[str, Any]:
    """The result of one case from a process of its own, or {"status": why there is none}."""
    command = [sys.executable, __file__, "case", json.dumps(settings)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"status": f"none within {limit:.0f} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        return {"status": last[:70]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def versions() -> str:
    found = []
    for package in ("jax", "numpy", "quantecon", "mdpsolver", "jaxdp", "pymdptoolbox"):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)


def compare(options: argparse.Namespace) -> list[dict[str, Any]]:
    print(versions())
    installed = {
        name: importlib.util.find_spec({"pymdptoolbox": "mdptoolbox", "omd-rl": "omd"}.get(p, p))
        for name, (p, *_) in SOLVERS.items()
    }
    rows = []
    for family in options.family:
        for states in options.states:
            for discount in options.discount:
                for operator in options.operator:
                    temperature = options.temperature if operator == "soft" else 0.0
                    print(f"\n{family}, {states} states, γ = {discount}, {operator}")
                    for name in SOFT if operator == "soft" else SOLVERS:
                        if installed[name] is None or (SOLVERS[name][2] and states > DENSE_LIMIT):
                            continue
                        row = ask(
                            options.limit, name=name, family=family, states=states,
                            discount=discount, temperature=temperature,
                            tolerance=options.tolerance, repeats=options.repeats,
                        )  # fmt: skip
                        cell = (name, family, states, discount, operator)
                        names = ("solver", "family", "states", "discount", "operator")
                        rows.append({**dict(zip(names, cell, strict=True)), **row})
                        print(f"  {name:38s}", _line(row, options.tolerance), flush=True)
    return rows


def _line(row: dict[str, Any], tolerance: float) -> str:
    if "seconds" not in row:
        return row["status"]
    missed = "" if row["residual"] <= tolerance else "  misses the residual"
    return (
        f"{row['seconds']:10.4f} s  first {row['first']:7.2f} s  {row['memory_gb']:6.2f} GB  "
        f"residual {row['residual']:.1e}{missed}"
    )


def main() -> None:
    if sys.argv[1:2] == ["case"]:
        print(json.dumps(case(**json.loads(sys.argv[2]))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=("compare", "memory"), default="compare")
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--states", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--discount", type=float, nargs="+", default=[0.9, 0.99, 0.9999])
    parser.add_argument("--operator", nargs="+", choices=("hard", "soft"), default=["hard", "soft"])
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--tolerance", type=float, default=1e-8, help="of the relative residual")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds a solver may take")
    parser.add_argument("--out", type=Path, help="a CSV of all rows")
    options = parser.parse_args()
    if options.part == "memory":
        for states in options.states:
            row = ask(3600, name="omd inexact policy iteration", family="garnet", states=states,
                      discount=0.95, temperature=0.05, tolerance=1e-8, repeats=0)  # fmt: skip
            print(f"garnet, {states} states, soft:", _line(row, 1e-8))
        return
    rows = compare(options)
    if options.out:
        import pandas as pd

        options.out.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
