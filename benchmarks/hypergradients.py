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
import os
import platform
import statistics
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("EQX_ON_ERROR", "off")  # optimistix' adjoint would raise after 20 products

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

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
        print(
            f"{name:11} dJ/dtheta {gradients[name]:.6e}  {memory:8.1f} MiB of temporaries  "
            f"compiled in {seconds:.1f} s"
        )
    calls = {n: functools.partial(f, theta, w0, x, y) for n, f in compiled.items()}
    times = in_turn(calls, args.rounds)
    size = sum(leaf.size for leaf in w0.values())
    print(f"{size} parameters, {products} products, batch {args.batch}, {args.rounds} rounds")
    for name in times:
        memory = [compiled[n].memory_analysis().temp_size_in_bytes for n in ("omd", name)]
        print(
            f"omd / {name:11} time {ratio(times, 'omd', name):.3f}  "
            f"memory {memory[0] / max(1, memory[1]):.3f}  "
            f"({statistics.median(times[name]):.4f} s a call)"
        )


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
            return implicit.jacobian(lambda w, theta: rights @ w, h, theta, theta, method=method)[0]

        one, eight = (functools.partial(many, rights[:count]) for count in (1, 8))
        times = in_turn({"one": one, "eight": eight}, args.rounds)
        print(
            f"{name:6} eight right-hand sides / one: {ratio(times, 'eight', 'one'):.2f}  "
            f"({statistics.median(times['one']):.4f} s for one)"
        )


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
                lambda w, theta: jnp.mean((held @ w - held_y) ** 2),
                h,
                w,
                theta,
                method=method(theta),
                adjoint_init=init if warm else jnp.zeros_like(init),
                throw=False,
            )
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
        inner,
        lambda w, theta, batch: jnp.mean(losses(w, batch)),
        jnp.zeros((20, 5)),
        jnp.zeros(32),
        data,
    )


def stochastic(args):
    for title, make in (
        ("logistic regression", logistic_problem),
        ("data cleaning", cleaning_problem),
    ):
        print(
            f"\n{title}: seconds and outer loss at the inner minimum, for each fifth of the updates"
        )
        compare(*make(jax.random.key(0)), args.updates, args.step)


def compare(inner, outer, w0, theta0, data, updates, outer_step):
    train, held_out = (jax.tree.map(lambda x, s=s: x[s], data) for s in (0, 1))
    everything, every_held_out = (
        jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), part) for part in (train, held_out)
    )
    inner_step = 0.5

    def pick(part, i):
        return jax.tree.map(lambda x: x[i], part)

    def descended(w, theta, count):
        def step(_, w):
            slope = jax.grad(inner)(w, theta, everything)
            return w - inner_step * slope

        return jax.lax.fori_loop(0, count, step, w)

    value = jax.jit(lambda theta: outer(descended(w0, theta, 3000), theta, every_held_out))
    soba = implicit.Soba(outer, inner, inner_step, outer_step)
    saba = implicit.Saba(outer, inner, inner_step, outer_step)

    def soba_step(state, key):
        i, j = jax.random.randint(key, (2,), 0, 32)
        return soba.update(state, pick(train, i), pick(held_out, j))

    def saba_step(state, key):
        i, j = jax.random.randint(key, (2,), 0, 32)
        return saba.update(state, train, i, held_out, j)

    def stocbio_step(state, key):
        w, theta = state
        drawn = jax.random.randint(key, (22,), 0, 32)
        w = jax.lax.fori_loop(
            0, 10, lambda k, w: w - inner_step * jax.grad(inner)(w, theta, pick(train, drawn[k])), w
        )
        grad = implicit.stochastic_neumann(
            outer,
            inner,
            w,
            theta,
            outer_batch=pick(held_out, drawn[20]),
            cross_batch=pick(train, drawn[21]),
            batches=pick(train, drawn[10:20]),
            step=inner_step,
        )
        return w, theta - outer_step * grad

    full = adjoints(inner, outer, everything, every_held_out)

    def full_step(name):
        def step(state, key):
            w, theta = state
            w = descended(w, theta, 10)
            return w, theta - outer_step * jax.grad(full[name])(theta, w)

        return step

    runs = {
        "SOBA": (soba_step, soba.init(w0, theta0), 2, updates),
        "SABA": (saba_step, saba.init(w0, theta0, train, held_out), 2, updates),
        "stocBiO": (stocbio_step, (w0, theta0), 1, updates // 10),
        **{
            f"all data, {name}": (full_step(name), (w0, theta0), 1, updates // 100) for name in full
        },
    }
    for name, (step, state, where, count) in runs.items():
        fifth = max(1, count // 5)
        run = jax.jit(
            lambda s, keys, step=step: jax.lax.scan(lambda s, k: (step(s, k), None), s, keys)[0]
        )
        keys = jax.random.split(jax.random.key(1), 5 * fifth).reshape(5, fifth)
        jax.block_until_ready(run(run(state, keys[0]), keys[0]))
        shown, spent = [], 0.0
        for part in keys:
            begin = time.perf_counter()
            state = jax.block_until_ready(run(state, part))
            spent += time.perf_counter() - begin
            shown.append(f"{spent:7.2f} s {float(value(state[where])):.5f}")
        print(f"{name:22} {'   '.join(shown)}")


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
            theta,
            held_out,
        )

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
    parser.add_argument("--updates", type=int, default=20_000)
    parser.add_argument("--step", type=float, default=0.3, help="of the outer variable")
    args = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, JAX {jax.__version__}, "
        f"NumPy {np.__version__}, {jax.devices()[0].device_kind}"
    )
    {"adjoint": adjoint, "block": block, "products": products, "stochastic": stochastic}[args.what](
        args
    )


if __name__ == "__main__":
    main()
