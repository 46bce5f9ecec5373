"""Tabular solves beside QuantEcon's DiscreteDP, and the cost of a solve and a gradient by size.

    python benchmarks/tabular.py                  # both tables
    python benchmarks/tabular.py forward --states 10000 100000 --discount 0.99
    python benchmarks/tabular.py scale --states 1000 1000000

Every case runs in its own process, so that compile times are cold and peak memory is its own.
Both sides stop at ‖Q − BQ‖∞ ≤ tolerance; the residual shown is computed by the same NumPy code for
both. Pin the cores from outside (`taskset -c 0,1`). Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np

ACTIONS, BRANCHING = 4, 10
QUANTECON = ("value_iteration", "policy_iteration", "modified_policy_iteration")
OURS = (
    ("hard", "value_iteration"),
    ("hard", "modified_policy_iteration"),
    ("soft", "modified_policy_iteration"),
)


def build(family: str, states: int, discount: float) -> Any:
    import jax

    from omd import tabular

    if family == "garnet":
        mdp = tabular.garnet(0, states, ACTIONS, BRANCHING, discount=discount, sparse=True)
    else:
        side = math.isqrt(states)
        mdp = tabular.grid_world(side, side, slip=0.2, discount=discount, sparse=True)
    return jax.block_until_ready(mdp)


def best_of(run: Any, seconds: float = 10.0) -> float:
    """The shortest of three to twenty runs, in seconds."""
    times: list[float] = []
    while len(times) < 3 or (sum(times) < seconds and len(times) < 20):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        if sum(times) > 3 * seconds:
            break
    return min(times)


def in_turn(ways: dict[str, Any], seconds: float = 20.0) -> dict[str, float]:
    """The shortest of three to twenty rounds of each, in seconds, after one that compiles."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    begin = time.perf_counter()
    for turn in range(21):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
        if turn >= 3 and time.perf_counter() - begin > seconds:
            break
    return {name: min(found[1:]) for name, found in times.items()}


def residual(mdp: Any, v: np.ndarray) -> float:
    """‖Q − BQ‖∞ of the hard operator for the action values that v gives."""
    index, weight = np.asarray(mdp.transition.index), np.asarray(mdp.transition.probability)
    reward, discount = np.asarray(mdp.reward), float(mdp.discount)

    def lookahead(v):
        return reward + discount * np.einsum("sak,sak->sa", weight, v[index])

    q = lookahead(v)
    return float(np.abs(q - lookahead(q.max(axis=-1))).max())


def case_omd(family, states, discount, tolerance, temperature, operator, method):
    import jax

    from omd import tabular

    jax.config.update("jax_enable_x64", True)
    mdp = build(family, states, discount)

    def run():
        return jax.block_until_ready(
            tabular.solve(mdp, temperature, operator=operator, method=method, tolerance=tolerance)
        )

    start = time.perf_counter()
    solution = run()
    first = time.perf_counter() - start
    seconds = best_of(run)
    return {
        "seconds": seconds,
        "compile": first - seconds,
        "iterations": int(solution.iterations),
        "status": tabular.Status(int(solution.status)).name.lower(),
        "residual": residual(mdp, np.asarray(solution.q).max(-1))
        if operator == "hard"
        else float(solution.residual),
    }


def case_quantecon(family, states, discount, tolerance, method):
    import jax
    import scipy.sparse
    from quantecon.markov import DiscreteDP

    jax.config.update("jax_enable_x64", True)

    def problem(mdp):
        weight, index = np.array(mdp.transition.probability), np.array(mdp.transition.index)
        states, actions, width = weight.shape
        pairs = states * actions
        matrix = scipy.sparse.csr_matrix(
            (weight.ravel(), index.ravel(), np.arange(0, pairs * width + 1, width)),
            shape=(pairs, states),
        )
        matrix.sum_duplicates()
        rows = np.divmod(np.arange(pairs), actions)
        return DiscreteDP(np.asarray(mdp.reward).ravel(), matrix, float(mdp.discount), *rows)

    # its ε is about the values; so it stops where the increments are within the tolerance
    scale = 2.0 if method == "value_iteration" else 1.0
    epsilon = scale * tolerance / (1 - discount)
    start = time.perf_counter()
    problem(build(family, 16, discount)).solve(method, epsilon=epsilon, max_iter=10**6)
    first = time.perf_counter() - start
    mdp = build(family, states, discount)
    program = problem(mdp)
    results = []

    def run():
        results[:] = [program.solve(method, epsilon=epsilon, max_iter=10**6)]

    seconds = best_of(run)
    return {
        "seconds": seconds,
        "compile": first,
        "iterations": results[0].num_iter,
        "status": "converged" if results[0].num_iter < 10**6 else "max_iterations",
        "residual": residual(mdp, results[0].v),
    }


def case_gradient(family, states, discount, tolerance, temperature):
    """∂J(π_Q*)/∂(r, p) for planning in a model that equals the MDP, as OMD takes it, eq. (5).

    Beside it ∂(ρ₀·V*)/∂(r, p), the gradient through the solve alone.
    """
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from omd import tabular

    jax.config.update("jax_enable_x64", True)
    start = time.perf_counter()
    mdp = build(family, states, discount)
    built = time.perf_counter() - start

    def objective(theta, mdp):
        model = eqx.tree_at(lambda m: (m.transition.probability, m.reward), mdp, theta)
        solution = tabular.solve(model, temperature, tolerance=tolerance)
        policy = tabular.softmax_policy(solution.q, temperature)
        # without the derivatives
        seen = (solution.residual, solution.status)
        return tabular.expected_return(mdp, policy, tolerance=tolerance), seen

    def value(theta, mdp):
        model = eqx.tree_at(lambda m: (m.transition.probability, m.reward), mdp, theta)
        return mdp.initial @ tabular.solve(model, temperature, tolerance=tolerance).v

    gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))
    through = jax.jit(jax.value_and_grad(value))
    theta = (mdp.transition.probability, mdp.reward)

    def run():
        return jax.block_until_ready(gradient(theta, mdp))

    start = time.perf_counter()
    (found, (gap, status)), slopes = run()
    first = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    # warm, in turn: what else the machine does meets all three alike
    ways = {
        "solve": lambda: tabular.solve(mdp, temperature, tolerance=tolerance),
        "through": lambda: through(theta, mdp),
        "seconds": lambda: gradient(theta, mdp),
    }
    best = in_turn({name: lambda f=f: jax.block_until_ready(f()) for name, f in ways.items()})
    finite = all(bool(jnp.isfinite(x).all()) for x in (found, *slopes))
    return {
        "build": built,
        "first": first,
        "peak_gb": peak,
        **best,
        "residual": float(gap),
        "status": tabular.Status(int(status)).name.lower() if finite else "not finite",
    }


def ask(limit: float, **case: Any) -> dict[str, Any]:
    """The result of one case, from a process of its own."""
    command = [sys.executable, __file__, "case", json.dumps(case)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"status": f"no answer within {limit:.0f} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return {"status": f"exit {done.returncode} {last}"[:60]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def forward(options: argparse.Namespace) -> None:
    for family in options.family:
        for states in options.states:
            problem = {
                "family": family,
                "states": states,
                "discount": options.discount,
                "tolerance": options.tolerance,
            }
            print(f"\n{family}, {states} states, γ = {options.discount}, to {options.tolerance:g}")
            print(f"{'':36s}{'seconds':>10s}{'compile':>9s}{'iterations':>11s}{'residual':>10s}")
            cases = {
                f"omd {operator} {method}": {
                    "kind": "omd",
                    "temperature": options.temperature,
                    "operator": operator,
                    "method": method,
                }
                for operator, method in OURS
            } | {
                f"quantecon {method}": {"kind": "quantecon", "method": method}
                for method in QUANTECON
            }
            rows = {name: ask(options.limit, **case, **problem) for name, case in cases.items()}
            reference = rows["omd hard modified_policy_iteration"].get("seconds")
            for name, row in rows.items():
                if "seconds" not in row:
                    print(f"{name:36s}  {row['status']}")
                    continue
                ratio = ""
                if name.startswith("quantecon") and reference:
                    ratio = f"  = {row['seconds'] / reference:.1f} x omd hard modified"
                print(
                    f"{name:36s}{row['seconds']:10.4f}{row['compile']:9.2f}"
                    f"{row['iterations']:11d}{row['residual']:10.1e}  {row['status']}{ratio}"
                )


def scale(options: argparse.Namespace) -> None:
    for family in options.family:
        print(
            f"\n{family}, γ = {options.discount}, α = {options.temperature}, to "
            f"{options.tolerance:g}: soft solve and ∂J/∂(r, p); µs are per state\n"
            f"{'states':>9s}{'first (s)':>10s}{'solve':>10s}{'µs':>8s}{'through it':>11s}"
            f"{'ratio':>7s}{'dJ':>10s}{'ratio':>7s}{'peak GB':>9s}{'residual':>10s}"
        )
        for states in options.states:
            row = ask(
                options.limit,
                kind="gradient",
                family=family,
                states=states,
                discount=options.discount,
                tolerance=options.tolerance,
                temperature=options.temperature,
            )
            if "seconds" not in row:
                print(f"{states:9d}  {row['status']}")
                continue
            print(
                f"{states:9d}{row['first']:10.2f}{row['solve']:10.4f}"
                f"{row['solve'] / states * 1e6:8.2f}{row['through']:11.4f}"
                f"{row['through'] / row['solve']:7.2f}{row['seconds']:10.4f}"
                f"{row['seconds'] / row['solve']:7.2f}{row['peak_gb']:9.2f}{row['residual']:10.1e}"
                f"  {row['status']}"
            )


CASES = {"omd": case_omd, "quantecon": case_quantecon, "gradient": case_gradient}


def main() -> None:
    if sys.argv[1:2] == ["case"]:
        case = json.loads(sys.argv[2])
        print(json.dumps(CASES[case.pop("kind")](**case)))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=("all", "forward", "scale"), default="all")
    parser.add_argument("--states", type=int, nargs="+")
    parser.add_argument("--family", nargs="+", choices=("garnet", "grid"), default=["garnet"])
    parser.add_argument("--discount", type=float, default=0.95)
    parser.add_argument("--temperature", type=float, default=0.01)
    parser.add_argument("--tolerance", type=float, default=1e-8)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds a case may take")
    options = parser.parse_args()
    given = options.states
    if options.part in ("all", "forward"):
        options.states = given or [1_000, 10_000, 100_000]
        forward(options)
    if options.part in ("all", "scale"):
        options.states = given or [1_000, 10_000, 100_000, 1_000_000]
        scale(options)


if __name__ == "__main__":
    main()
