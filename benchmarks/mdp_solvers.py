"""Ours beside QuantEcon, mdpsolver, jaxdp and pymdptoolbox, to one certified residual.

    python benchmarks/mdp_solvers.py                       # goes on where its CSV ends
    python benchmarks/mdp_solvers.py --states 1000 --family grid --budget 60     # a quick look
    python benchmarks/mdp_solvers.py draw                  # table and picture of the CSV only
    python benchmarks/mdp_solvers.py memory --states 10000000

A cell is a family, a size, a discount and an operator. All solvers of a family and a size run one
after another, each in a process of its own, on the same arrays; each must reach
‖v − Bv‖∞ ≤ tolerance · max|r|, measured by the same NumPy code, or the cell says what it reached.
Time is the best of 2 to 50 runs after a first one (compilation apart); memory is the peak of the
process so far less that after building the arrays. A solver that took longer than the limit for a
cell isn't asked for larger discounts, nor for more states at that discount.

Rows go to results/tabular/solvers.csv as they come, and a run that ended (`--budget` seconds, or by
hand) goes on where the file ends. Table and picture are beside it. What is not installed is left
out; madupite has no package at PyPI and needs PETSc and MPI. Pin the cores from outside. Needs the
extra `bench`.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import importlib.util
import json
import math
import resource
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Tables = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Successors [S, A, K], their probabilities, rewards [S, A]."""

BLOCK = 1_000_000
"""States up to which a Garnet is made in one go."""

FAMILIES = ("garnet", "grid", "inventory", "rust")
DENSE_LIMIT = 3000
"""States above which solvers that take dense arrays only are left out."""


def build(family: str, states: int) -> Tables:
    """One problem as plain arrays, the same for all solvers."""
    if family == "garnet" and states > BLOCK:
        return in_blocks(states)
    if family == "garnet":
        rng = np.random.default_rng(0)
        index = np.sort(rng.integers(states, size=(states, 4, 10)), axis=-1)
        cuts = np.sort(rng.random((states, 4, 9)), axis=-1)
        return index, np.diff(cuts, axis=-1, prepend=0.0, append=1.0), rng.random((states, 4))
    if family == "grid":
        side = math.isqrt(states)
        cell = np.arange(side * side)
        moves = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])
        y, x = (
            np.clip(c[:, None] + m, 0, side - 1)
            for c, m in zip(np.divmod(cell, side), moves.T, strict=True)
        )
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


def in_blocks(states: int) -> Tables:
    """A Garnet too large for temporary copies of its tables."""
    rng = np.random.default_rng(0)
    index, weight = np.empty((states, 4, 10), np.int32), np.empty((states, 4, 10))
    for start in range(0, states, BLOCK // 10):
        stop = min(start + BLOCK // 10, states)
        rows = rng.integers(states, size=(stop - start, 4, 10), dtype=np.int32)
        index[start:stop] = np.sort(rows, axis=-1)
        cuts = np.sort(rng.random((stop - start, 4, 9)), axis=-1)
        weight[start:stop] = np.diff(cuts, axis=-1, prepend=0.0, append=1.0)
    return index, weight, rng.random((states, 4))


def look_ahead(tables: Tables, discount: float, v: np.ndarray) -> np.ndarray:
    index, weight, reward = tables
    ahead = np.zeros_like(reward)
    for k in range(index.shape[-1]):
        ahead += weight[..., k] * v[index[..., k]]
    return reward + discount * ahead


def residual(tables: Tables, discount: float, temperature: float, v: np.ndarray) -> float:
    """‖v − Bv‖∞ / max|r|, hard where the temperature is 0."""
    q = look_ahead(tables, discount, v)
    top = q.max(axis=-1)
    image = top
    if temperature:
        image = top + temperature * np.log(np.exp((q - top[:, None]) / temperature).sum(-1))
    return float(np.abs(v - image).max() / np.abs(tables[2]).max())


Solve = Callable[[], np.ndarray]


def ours(method: str) -> Callable[..., Solve]:
    def prepare(tables: Tables, discount: float, temperature: float, tolerance: float) -> Solve:
        import jax

        from omd import tabular

        jax.config.update("jax_enable_x64", True)
        index, weight, reward = tables
        mdp = tabular.MDP(tabular.Successors(np.asarray(index, np.int32), weight), reward, discount)
        operator = "soft" if temperature else "hard"
        scale = float(np.abs(reward).max())

        def solve() -> np.ndarray:
            solution = tabular.solve(
                mdp,
                temperature or 1.0,
                operator=operator,
                method=method,
                tolerance=tolerance * scale,
            )
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
            transition=rows,
            reward=reward,
            initial=jnp.full(states, 1 / states),
            terminal=jnp.zeros(states, bool),
        )
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
        "quantecon",
        quantecon("modified_policy_iteration"),
        False,
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
}
SOFT = ("omd modified policy iteration", "omd inexact policy iteration")


DEFAULT = "omd inexact policy iteration"
"""What `tabular.solve` takes above 256 states."""
KEYS = ("family", "states", "solver", "discount", "operator")


def serve(solver: str, family: str, states: int, settings: dict[str, Any]) -> None:
    """Answers each line of input, a discount and an operator, with a line of figures."""
    tables = build(family, states)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for line in sys.stdin:
        discount, operator = json.loads(line)
        temperature = settings["temperature"] if operator == "soft" else 0.0
        solve = SOLVERS[solver][1](tables, discount, temperature, settings["tolerance"])
        times = []
        # quick solves oftener, up to a third of a second: the rest of the machine may be busy
        while sum(times[1:]) <= settings["limit"] and (
            len(times) <= settings["repeats"] or (sum(times[1:]) < 0.3 and len(times) <= 50)
        ):
            start = time.perf_counter()
            v = solve()
            times.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        row = {
            "first": times[0],
            "seconds": min(times),
            "memory_gb": (peak - before) / 1e6,
            "residual": residual(tables, discount, temperature, np.asarray(v, float)),
        }
        print(json.dumps(row), flush=True)


def ask(
    solver: str,
    family: str,
    states: int,
    cells: list[tuple[float, str]],
    settings: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    """One row a cell, or the reason why there is none, from one process for all cells.

    What compiles, the first cell of an operator, gets half a minute more than the others, which
    get three times the limit.
    """
    command = [sys.executable, __file__, "serve", json.dumps([solver, family, states, settings])]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    compiled = set()
    try:
        for cell in cells:
            patience = 3 * settings["limit"] + (0 if cell[1] in compiled else 30)
            compiled.add(cell[1])
            print(json.dumps(cell), file=process.stdin, flush=True)
            if not select.select([process.stdout], [], [], patience)[0]:
                yield {"status": f"none within {patience:.0f} s"}
                return
            line = process.stdout.readline()
            if not line:
                process.wait()
                last = (process.stderr.read().strip().splitlines() or ["no answer"])[-1]
                yield {"status": last[:70]}
                return
            yield json.loads(line)
    except BrokenPipeError:
        yield {"status": "the process ended"}
    finally:
        process.kill()
        process.wait()


def versions() -> str:
    found = []
    for package in ("jax", "numpy", "quantecon", "mdpsolver", "jaxdp", "pymdptoolbox", "madupite"):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)


def compare(options: argparse.Namespace) -> None:
    """Fills the CSV until all is there or the budget is used up."""
    begin = time.monotonic()
    settings = {k: getattr(options, k) for k in ("temperature", "tolerance", "repeats", "limit")}
    modules = {"pymdptoolbox": "mdptoolbox", "omd-rl": "omd"}
    solvers = [
        name
        for name, (package, *_) in SOLVERS.items()
        if importlib.util.find_spec(modules.get(package, package))
    ]
    rows = read(options.out)
    for states in options.states:
        for family in options.family:
            for solver in solvers:
                if SOLVERS[solver][2] and states > DENSE_LIMIT:
                    continue
                operators = [o for o in options.operator if o == "hard" or solver in SOFT]
                cells = [
                    (discount, operator)
                    for operator in operators
                    for discount in sorted(options.discount)
                    if (family, states, solver, discount, operator) not in rows
                ]
                if not cells:
                    continue
                if time.monotonic() - begin > options.budget:
                    print(f"the budget of {options.budget:.0f} s is used up; run again to go on")
                    return
                print(f"{family}, {states} states, {solver}", flush=True)
                hopeful = [c for c in cells if not hopeless(rows, family, states, solver, *c)]
                found = iter(ask(solver, family, states, hopeful, settings))
                for cell in cells:
                    row = next(found, None) if cell in hopeful else None
                    row = row or {"status": "not asked: too slow in an easier cell"}
                    key = (family, states, solver, *cell)
                    rows[key] = dict(zip(KEYS, key, strict=True)) | row
                    append(options.out, rows[key])
                    print(
                        f"  γ = {cell[0]}, {cell[1]}: {_line(row, options.tolerance)}", flush=True
                    )
    print("all cells are there")


def hopeless(
    rows: dict[tuple, dict[str, Any]],
    family: str,
    states: int,
    solver: str,
    discount: float,
    operator: str,
) -> bool:
    """Whether fewer states failed, or took so long that these would take ten minutes."""
    for (f, n, s, g, o), row in rows.items():
        if (f, s, g, o) == (family, solver, discount, operator) and n < states:
            seconds = row.get("seconds")
            if seconds is None or seconds * states / n > 600:
                return True
    return False


COLUMNS = (*KEYS, "seconds", "first", "memory_gb", "residual", "status")


def read(path: Path) -> dict[tuple, dict[str, Any]]:
    """The rows of a CSV by their keys; none where there is no file."""
    if not path.exists():
        return {}
    rows = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            figures = {k: float(row[k]) for k in COLUMNS[5:9] if row[k]}
            key = (
                row["family"],
                int(row["states"]),
                row["solver"],
                float(row["discount"]),
                row["operator"],
            )
            status = {"status": row["status"]} if row["status"] else {}
            rows[key] = dict(zip(KEYS, key, strict=True)) | figures | status
    return rows


def append(path: Path, row: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def _line(row: dict[str, Any], tolerance: float) -> str:
    if "seconds" not in row:
        return row["status"]
    missed = "" if row["residual"] <= tolerance else "  misses the residual"
    return (
        f"{row['seconds']:10.4f} s  first {row['first']:7.2f} s  {row['memory_gb']:6.2f} GB  "
        f"residual {row['residual']:.1e}{missed}"
    )


def draw(options: argparse.Namespace) -> None:
    """The table (Markdown) and the picture of what the CSV holds, beside it."""
    rows = [r for r in read(options.out).values() if r["operator"] == "hard"]
    good = [r for r in rows if r.get("residual", math.inf) <= options.tolerance]
    if not good:
        sys.exit(f"{options.out} has no row within the tolerance yet")
    lines = [
        "| family | states | γ | omd (default) | GB | best of the others | GB | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    cells = sorted({(r["family"], r["states"], r["discount"]) for r in good})
    lost = []
    for cell in cells:
        here = [r for r in good if (r["family"], r["states"], r["discount"]) == cell]
        ours = next((r for r in here if r["solver"] == DEFAULT), None)
        others = [r for r in here if not r["solver"].startswith("omd")]
        best = min(others, key=lambda r: r["seconds"], default=None)
        ratio = best["seconds"] / ours["seconds"] if ours and best else math.nan
        if ratio < 1:
            lost.append(f"{cell[0]}, {cell[1]} states, γ = {cell[2]} ({best['solver']})")
        of = [
            f"{r['seconds']:.4f} s{name} | {r['memory_gb']:.2f}" if r else "none | "
            for r, name in ((ours, ""), (best, f" ({best['solver']})" if best else ""))
        ]
        family, states, discount = cell
        lines.append(f"| {family} | {states} | {discount} | {of[0]} | {of[1]} | {ratio:.1f} |")
    text = "\n".join(lines)
    note = "Not the fastest: " + ("; ".join(lost) or "nowhere") + "."
    about = f"{versions()}; residual of all: at most {options.tolerance:g} max|r|."
    options.out.with_suffix(".md").write_text(f"{about}\n\n{text}\n\n{note}\n", encoding="utf-8")
    print(note)
    _picture(good, options.out.with_suffix(".png"))


def _picture(good: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    families, sizes = (sorted({r[k] for r in good}) for k in ("family", "states"))
    packages = list(dict.fromkeys(r["solver"].split()[0] for r in good))
    discounts = sorted({r["discount"] for r in good})
    figure, axes = plt.subplots(
        len(sizes),
        len(families),
        figsize=(2.6 * len(families), 2.2 * len(sizes) + 0.6),
        layout="constrained",
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for i, states in enumerate(sizes):
        for j, family in enumerate(families):
            for k, package in enumerate(packages):
                best = {}
                for r in good:
                    mine = (
                        r["solver"] == DEFAULT
                        if package == "omd"
                        else (r["solver"].startswith(package))
                    )
                    if mine and (r["family"], r["states"]) == (family, states):
                        g = discounts.index(r["discount"])
                        best[g] = min(r["seconds"], best.get(g, math.inf))
                style = {"color": "black", "lw": 2} if package == "omd" else {"color": f"C{k}"}
                at = sorted(best)
                axes[i, j].plot(at, [best[g] for g in at], "o-", ms=3, label=package, **style)
            axes[i, j].set_yscale("log")
            axes[i, j].set_xticks(range(len(discounts)), [f"{g:g}" for g in discounts])
            axes[i, j].set_xlim(-0.3, len(discounts) - 0.7)
            if i == 0:
                axes[i, j].set_title(family, fontsize=10)
        axes[i, 0].set_ylabel(f"{states:,} states\nseconds")
    figure.supxlabel("discount", fontsize=10)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=150)


def memory(options: argparse.Namespace) -> None:
    """One soft solve by size, and what the process grew by."""
    settings = {"temperature": options.temperature, "tolerance": options.tolerance}
    settings |= {"repeats": 0, "limit": 1200.0}
    for states in options.states:
        for row in ask(DEFAULT, "garnet", states, [(0.95, "soft")], settings):
            print(f"garnet, {states} states, soft:", _line(row, options.tolerance))


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        serve(*json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=("compare", "draw", "memory"), default="compare")
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument(
        "--states",
        type=int,
        nargs="+",
        default=[1_000, 100_000, 10_000, 1_000_000],
        help="sizes in the order in which they are measured",
    )
    parser.add_argument("--discount", type=float, nargs="+", default=[0.9, 0.99, 0.9999])
    parser.add_argument("--operator", nargs="+", choices=("hard", "soft"), default=["hard", "soft"])
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--tolerance", type=float, default=1e-8, help="of the relative residual")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--limit", type=float, default=5.0, help="seconds a solve may take")
    parser.add_argument("--budget", type=float, default=660.0, help="seconds until it stops")
    parser.add_argument("--out", type=Path, default=Path("results/tabular/solvers.csv"))
    options = parser.parse_args()
    if options.part == "memory":
        memory(options)
        return
    print(versions())
    if options.part == "compare":
        compare(options)
    draw(options)


if __name__ == "__main__":
    main()
