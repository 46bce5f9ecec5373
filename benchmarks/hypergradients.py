"""Hypergradients beside those of JAXopt and optimistix, in turn in one run.

    python benchmarks/hypergradients.py adjoint     time, memory of a gradient, 10⁶ parameters
    python benchmarks/hypergradients.py block       eight right-hand sides against one
    python benchmarks/hypergradients.py products    what warm start and preconditioner save
    python benchmarks/hypergradients.py stochastic  outer loss against time on two problems

Ratios are medians over rounds; compile time is apart. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("EQX_ON_ERROR", "off")  # optimistix' adjoint would raise after 20 products

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.optimize

from omd import implicit

_DEFINITE = frozenset({lx.positive_semidefinite_tag})


def _answer(inputs):
    """What optimistix takes for the forward solve: the given w. A global function, as it asks."""
    return inputs[1], None


def _residual(w, _, inputs):
    """Scaled, lest lineax' CG take these Hessians for singular and stop with NaN at once."""
    h, _, args, *_ = inputs
    return jax.tree.map(lambda x: 2.0**30 * x, h(w, *args))


def in_turn(functions, rounds):
    """{name: seconds of each round}, after one call that compiles."""
    for f in functions.values():
        jax.block_until_ready(f())
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, f in functions.items():
            begin = time.perf_counter()
            jax.block_until_ready(f())
            times[name].append(time.perf_counter() - begin)
    return times


def ratio(times, name, other):
    return statistics.median(a / b for a, b in zip(times[name], times[other], strict=True))


def network(width, batch):
    """A ridge-regularised tanh network: loss, weights (2 · width · width/2 of them) and data."""
    keys = jax.random.split(jax.random.key(0), 4)
    half = width // 2
    w = {
        "in": jax.random.normal(keys[0], (half, width)) / half**0.5,
        "out": jax.random.normal(keys[1], (width, half)) / width**0.5,
    }
    x, y = jax.random.normal(keys[2], (batch, half)), jax.random.normal(keys[3], (batch, half))

    def inner(w, theta, x, y):
        fit = jnp.mean((jnp.tanh(x @ w["in"]) @ w["out"] - y) ** 2)
        return fit + jnp.exp(theta) * sum(jnp.sum(leaf**2) for leaf in w.values()) / 2

    return inner, w, x, y


def adjoint(args):
    import jaxopt
    import optimistix

    inner, w0, x, y = network(args.width, args.batch)
    h = jax.grad(inner)
    products = 20

    def outer(w, x, y):
        return jnp.mean((jnp.tanh(x @ w["in"]) @ w["out"] - y) ** 2)

    def ours(theta, w0, x, y):
        method = implicit.CG(rtol=1e-30, max_steps=products)
        w = implicit.root(h, lambda w0, *_: w0, w0, theta, x, y, hypergradient=method, throw=False)
        return outer(w, x, y)

    def of_jaxopt(theta, w0, x, y):
        solve = functools.partial(jaxopt.linear_solve.solve_cg, tol=0.0, maxiter=products)
        solver = jaxopt.implicit_diff.custom_root(h, solve=solve)(lambda w0, *_: w0)
        return outer(solver(w0, theta, x, y), x, y)

    def of_optimistix(theta, w0, x, y):
        solver = lx.CG(rtol=1e-30, atol=1e-30, max_steps=products)
        found = optimistix.ImplicitAdjoint(linear_solver=solver).apply(
            _answer, _residual, (h, jax.lax.stop_gradient(w0), (theta, x, y)), _DEFINITE
        )
        return outer(found[0], x, y)

    theta = jnp.array(-3.0)
    compiled, gradients = {}, {}
    for name, loss in (("omd", ours), ("jaxopt", of_jaxopt), ("optimistix", of_optimistix)):
        begin = time.perf_counter()
        compiled[name] = jax.jit(jax.grad(loss)).lower(theta, w0, x, y).compile()
        seconds = time.perf_counter() - begin
        gradients[name] = float(compiled[name](theta, w0, x, y))
        memory = compiled[name].memory_analysis().temp_size_in_bytes / 2**20
        print(f"{name:11} dJ/dtheta {gradients[name]:.6e}  {memory:8.1f} MiB of temporaries  "
              f"compiled in {seconds:.1f} s")  # fmt: skip
    calls = {n: functools.partial(f, theta, w0, x, y) for n, f in compiled.items()}
    times = in_turn(calls, args.rounds)
    size = sum(leaf.size for leaf in w0.values())
    print(f"{size} parameters, {products} products, batch {args.batch}, {args.rounds} rounds")
    for name in times:
        memory = [compiled[n].memory_analysis().temp_size_in_bytes for n in ("omd", name)]
        print(f"omd / {name:11} time {ratio(times, 'omd', name):.3f}  "
              f"memory {memory[0] / max(1, memory[1]):.3f}  "
              f"({statistics.median(times[name]):.4f} s a call)")  # fmt: skip


def block(args):
    """A ridge regression with its data matrix: one product reads it once for all."""
    rows, columns = args.rows, args.columns
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (rows, columns)) / rows**0.5
    theta = jax.random.normal(keys[1], (columns,))
    rights = jax.random.normal(keys[2], (8, columns))

    def h(w, theta):
        return x.T @ (x @ w) + 0.3 * w - theta

    methods = {
        "cg": implicit.CG(rtol=1e-4),
        "gmres": implicit.GMRES(rtol=1e-4),
        "dense": implicit.Dense(rtol=1e-3),
    }
    for name, method in methods.items():

        @jax.jit
        def many(rights, method=method):
            return implicit.jacobian(
                lambda w, theta: rights @ w, h, theta, theta, method=method
            )[0]  # fmt: skip

        one, eight = (functools.partial(many, rights[:count]) for count in (1, 8))
        times = in_turn({"one": one, "eight": eight}, args.rounds)
        print(f"{name:6} eight right-hand sides / one: {ratio(times, 'eight', 'one'):.2f}  "
              f"({statistics.median(times['one']):.4f} s for one)")  # fmt: skip


def products(args):
    """Descent on one penalty a weight of an ill-scaled ridge regression, 30 outer steps."""
    keys = jax.random.split(jax.random.key(0), 4)
    scales = jnp.geomspace(1, 30, 40)
    x, held = (jax.random.normal(k, (200, 40)) * scales for k in keys[:2])
    true = jax.random.normal(keys[2], (40,)) / scales
    noise = jax.random.normal(keys[3], (2, 200)) / 2
    y, held_y = x @ true + noise[0], held @ true + noise[1]

    def h(w, theta):
        return x.T @ (x @ w - y) / len(y) + jnp.exp(theta) * w

    def descend(method, warm):
        def step(carry, _):
            theta, init = carry
            w = jnp.linalg.solve(x.T @ x / len(y) + jnp.diag(jnp.exp(theta)), x.T @ y / len(y))
            grad, report = implicit.hypergradient(
                lambda w, theta: jnp.mean((held @ w - held_y) ** 2), h, w, theta,
                method=method(theta), adjoint_init=init if warm else jnp.zeros_like(init),
                throw=False,
            )  # fmt: skip
            return (theta - grad, report.solution), report.iterations

        start = (jnp.full(40, -3.0), jnp.zeros(40))
        return jax.lax.scan(step, start, length=30)[1]

    def plain(theta):
        return implicit.CG(rtol=1e-3, max_steps=400)

    def jacobi(theta):
        diagonal = jnp.sum(x**2, 0) / len(y) + jnp.exp(theta)
        return implicit.CG(rtol=1e-3, max_steps=400, preconditioner=lambda v: v / diagonal)

    counts = {
        (name, warm): int(jax.jit(lambda m=m, warm=warm: descend(m, warm))().sum())
        for name, m in (("none", plain), ("diagonal", jacobi))
        for warm in (False, True)
    }
    base = counts["none", False]
    for (name, warm), count in counts.items():
        start = "warm" if warm else "cold"
        print(
            f"preconditioner {name:9} {start} start: {count:6} products, {base / count:.1f} × fewer"
        )


def logistic_problem(key):
    """ijcnn1-like: 22 columns, two unbalanced classes; one penalty for each column."""
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (4096, 22)) * jnp.geomspace(0.2, 1, 22)
    true = jax.random.normal(keys[1], (22,)) * 2
    y = jnp.sign(x @ true - 2 + jax.random.normal(keys[2], (4096,)))
    data = (x.reshape(2, 32, 64, 22), y.reshape(2, 32, 64))

    def loss(w, batch):
        return jnp.mean(jnp.logaddexp(0.0, -batch[1] * (batch[0] @ w)))

    def inner(w, theta, batch):
        return loss(w, batch) + jnp.sum(jnp.exp(theta) * w**2) / 2

    return inner, lambda w, theta, batch: loss(w, batch), jnp.zeros(22), jnp.full(22, -4.0), data


def cleaning_problem(key):
    """Data cleaning: a weight for each minibatch of samples, of which half have random labels."""
    keys = jax.random.split(key, 4)
    x = jax.random.normal(keys[0], (4096, 20))
    y = jnp.argmax(x @ jax.random.normal(keys[1], (20, 5)), 1)
    wrong = jax.random.randint(keys[2], (2048,), 0, 5)
    corrupt = (jnp.arange(2048) // 64) % 2 == 0
    y = jnp.concatenate([jnp.where(corrupt, wrong, y[:2048]), y[2048:]])
    index = jnp.tile(jnp.repeat(jnp.arange(32), 64), 2)
    data = tuple(a.reshape(2, 32, 64, *a.shape[1:]) for a in (x, y, index))

    def losses(w, batch):
        logits = batch[0] @ w
        chosen = jnp.take_along_axis(logits, batch[1][:, None], 1)[:, 0]
        return jax.nn.logsumexp(logits, 1) - chosen

    def inner(w, theta, batch):
        weights = jax.nn.sigmoid(theta[batch[2]])
        return jnp.mean(weights * losses(w, batch)) + 0.05 * jnp.sum(w**2) / 2

    return (
        inner, lambda w, theta, batch: jnp.mean(losses(w, batch)), jnp.zeros((20, 5)),
        jnp.zeros(32), data,
    )  # fmt: skip


def stochastic(args):
    jax.config.update("jax_enable_x64", True)  # differences of 1e-8 in the outer loss are shown
    makers = {"logistic regression": logistic_problem, "data cleaning": cleaning_problem}
    for title, make in makers.items():
        compare(title, *make(jax.random.key(0)), args.budget)


class Run(NamedTuple):
    """A stochastic method; steps are (inner step, outer step, whether they shrink)."""

    init: Callable[[tuple], Any]
    update: Callable[..., Any]
    """(state, minibatches drawn, steps, multiple of the outer step) -> state."""
    theta: Callable[[Any], Any]
    shrinking: tuple[float, ...] = (0.0,)
    draws: int = 1
    """Minibatches that an update draws."""


def stochastic_runs(inner, outer, w0, theta0, train, held_out):
    """SOBA, SABA and stocBiO with ten inner steps and ten factors."""

    def pick(part, i):
        return jax.tree.map(lambda x: x[i], part)

    def soba_update(state, drawn, steps, shrink):
        method = implicit.Soba(outer, inner, steps[0], steps[1])
        return method.update(state, pick(train, drawn[0]), pick(held_out, drawn[1]), shrink=shrink)

    def saba_update(state, drawn, steps, shrink):
        method = implicit.Saba(outer, inner, steps[0], steps[1])
        return method.update(state, train, drawn[0], held_out, drawn[1])

    def stocbio_update(state, drawn, steps, shrink):
        w, theta = state

        def descend(k, w):
            return w - steps[0] * jax.grad(inner)(w, theta, pick(train, drawn[k]))

        w = jax.lax.fori_loop(0, 10, descend, w)
        grad = implicit.stochastic_neumann(
            outer, inner, w, theta, outer_batch=pick(held_out, drawn[20]),
            cross_batch=pick(train, drawn[21]), batches=pick(train, drawn[10:20]), step=steps[0],
        )  # fmt: skip
        return w, theta - shrink * steps[1] * grad

    def saba_init(steps):
        return implicit.Saba(outer, inner, 1.0, 1.0).init(w0, theta0, train, held_out)

    return {
        "SABA": Run(saba_init, saba_update, lambda s: s.theta, draws=2),
        "SOBA": Run(
            lambda steps: implicit.Soba(outer, inner, 1.0, 1.0).init(w0, theta0),
            soba_update, lambda s: s.theta, (0.0, 1.0), 2,
        ),
        "stocBiO": Run(lambda steps: (w0, theta0), stocbio_update, lambda s: s[1], (0.0, 1.0), 22),
    }  # fmt: skip


def compare(title, inner, outer, w0, theta0, data, budget):
    """Each method gets the same time, and of a grid the steps that end lowest in it."""
    train, held_out = (jax.tree.map(lambda x, s=s: x[s], data) for s in (0, 1))
    every, every_held_out = (
        jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), part) for part in (train, held_out)
    )
    value, lowest = exact_value(inner, outer, w0, theta0, every, every_held_out)
    runs = stochastic_runs(inner, outer, w0, theta0, train, held_out)
    for name, gradient in adjoints(inner, outer, every, every_held_out).items():

        def update(state, drawn, steps, shrink, gradient=gradient):
            w, theta = state
            w = jax.lax.fori_loop(
                0, 10, lambda _, w: w - steps[0] * jax.grad(inner)(w, theta, every), w
            )
            return w, theta - steps[1] * jax.grad(gradient)(theta, w)

        runs[f"all data, {name}"] = Run(lambda steps: (w0, theta0), update, lambda s: s[1])

    values = jax.jit(jax.vmap(value))
    rows, chosen = {}, None
    for name, run in runs.items():

        def advance(state, draws, steps, begin, end, run=run):
            def body(step, state):
                shrink = jnp.where(steps[2] > 0, 1 / jnp.sqrt(1 + step / 1000), 1.0)
                return run.update(state, draws[step], steps, shrink)

            return jax.lax.fori_loop(begin, end, body, state)

        one = jax.jit(advance)
        limit = 400_000 // run.draws
        rng = np.random.default_rng(0)
        draws = [jnp.asarray(rng.integers(0, 32, (limit, run.draws))) for _ in range(3)]

        def seconds(state, steps, begin, end, one=one, draws=draws):
            clock = time.perf_counter()
            state = jax.block_until_ready(one(state, draws[0], steps, begin, end))
            return state, time.perf_counter() - clock

        first = jnp.array([0.1, 0.1, 0.0])
        start = one(run.init(None), draws[0], first, 0, 0)  # in the types that an update returns
        seconds(start, first, 0, 0)
        count = min(limit, int(budget / (seconds(start, first, 0, 500)[1] / 500)))
        fifths = [count * k // 5 for k in range(6)]
        grid = jnp.array(
            [(a, b, c) for a in (0.1, 0.5) for b in (1, 3, 10, 30, 100) for c in run.shrinking]
        )
        if name in ("all data, jaxopt", "all data, optimistix"):
            steps = chosen  # the same gradients as ours
        else:
            ends = jax.jit(jax.vmap(advance, (None, None, 0, None, None)))(
                start, draws[0], grid, 0, count
            )
            final = np.asarray(values(run.theta(ends)))
            steps = chosen = grid[int(np.nanargmin(np.where(np.isnan(final), np.inf, final)))]

        seeds = jax.jit(jax.vmap(advance, (0, 0, None, None, None)))
        many = jax.tree.map(lambda x: jnp.stack([x] * 3), start)
        state, spent, cells = start, 0.0, []
        for begin, end in itertools.pairwise(fifths):
            state, took = seconds(state, steps, begin, end)
            spent += took
            many = seeds(many, jnp.stack(draws), steps, begin, end)
            cells.append((spent, np.asarray(values(run.theta(many)))))
        rows[name] = (count, steps, cells)
        lowest = min(lowest, *(np.nanmin(found) for _, found in cells))
    print(f"\n{title}: seconds, and outer loss at the inner minimum above its lowest, "
          f"{lowest:.6f}; medians of 3 draws")  # fmt: skip
    for name, (count, steps, cells) in rows.items():
        shown = "  ".join(f"{t:5.2f} s {np.median(v) - lowest:.1e}" for t, v in cells)
        shrinks = ", shrinking" if steps[2] else ""
        print(f"{name:20} {shown}  ({count} updates, steps {steps[0]:g}, {steps[1]:g}{shrinks})")


def exact_value(inner, outer, w0, theta0, train, held_out):
    """(θ -> outer loss at the inner minimum on all data, the lowest that L-BFGS finds)."""

    def slope(w, theta):
        return jax.grad(inner)(w, theta, train)

    def minimum(w, theta):
        def newton(_, w):
            gradient, product = jax.linearize(lambda w: slope(w, theta), w)
            return w - jax.scipy.sparse.linalg.cg(product, gradient, tol=1e-12, maxiter=60)[0]

        return jax.lax.fori_loop(0, 12, newton, w)

    def value(theta):
        method = implicit.CG(rtol=1e-10, max_steps=200)
        w = implicit.root(slope, minimum, w0, theta, hypergradient=method, throw=False)
        found = jnp.linalg.norm(slope(w, theta)) < 1e-8
        return jnp.where(found, outer(w, theta, held_out), jnp.nan)

    both = jax.jit(jax.value_and_grad(value))
    found = scipy.optimize.minimize(
        lambda t: tuple(map(np.asarray, both(jnp.asarray(t)))), theta0, jac=True,
        method="L-BFGS-B", bounds=[(-20, 20)] * len(theta0),
        options={"maxiter": 300, "ftol": 1e-15, "gtol": 1e-9},
    )  # fmt: skip
    return value, found.fun


def adjoints(inner, outer, train, held_out):
    """{library: loss(theta, w) whose gradient is by its adjoint, CG with 10 products}."""
    import jaxopt
    import optimistix

    slope = jax.grad(inner)

    def h(w, theta):
        return slope(w, theta, train)

    def ours(theta, w):
        method = implicit.CG(rtol=1e-30, max_steps=10)
        w = implicit.root(h, lambda w, _: w, w, theta, hypergradient=method, throw=False)
        return outer(w, theta, held_out)

    def of_jaxopt(theta, w):
        solve = functools.partial(jaxopt.linear_solve.solve_cg, tol=0.0, maxiter=10)
        return outer(
            jaxopt.implicit_diff.custom_root(h, solve=solve)(lambda w, _: w)(w, theta),
            theta, held_out,
        )  # fmt: skip

    def of_optimistix(theta, w):
        solver = lx.CG(rtol=1e-30, atol=1e-30, max_steps=10)
        found = optimistix.ImplicitAdjoint(linear_solver=solver).apply(
            _answer, _residual, (slope, jax.lax.stop_gradient(w), (theta, train)), _DEFINITE
        )
        return outer(found[0], theta, held_out)

    return {"omd": ours, "jaxopt": of_jaxopt, "optimistix": of_optimistix}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["adjoint", "block", "products", "stochastic"])
    parser.add_argument("--width", type=int, default=1000, help="of the network: width² parameters")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--columns", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--budget", type=float, default=1.0, help="seconds a stochastic method")
    args = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, JAX {jax.__version__}, "
          f"NumPy {np.__version__}, {jax.devices()[0].device_kind}")  # fmt: skip
    {"adjoint": adjoint, "block": block, "products": products, "stochastic": stochastic}[args.what](
        args
    )


if __name__ == "__main__":
    main()
