"""Each method under each transform of JAX, on the zoo, beside `Dense`.

    python tests/support/transform_matrix.py

prints the largest relative error of each method over the problems on which it is exact.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from omd import implicit

_TRANSFORMS = {
    "grad": lambda f, t, _: jax.grad(f)(t),
    "jvp": lambda f, t, v: jax.jvp(f, (t,), (v,))[1],
    "hessian": lambda f, t, _: jax.hessian(f)(t),
    "vmap": lambda f, t, v: jax.vmap(jax.grad(f))(jnp.stack([t, t + 0.1 * v])),
    "scan": lambda f, t, v: jax.lax.scan(lambda t, _: (t + 0.1 * v, jax.grad(f)(t)), t, length=2)[
        1
    ],
    "checkpoint": lambda f, t, _: jax.grad(jax.checkpoint(f))(t),
}


def derivatives(problem, method):
    """(function of a point [n] and a tangent [n] that gives every derivative of the outer loss, the
    loss of a point, the point θ): by `method`, at the solution for θ."""
    point, unravel = ravel_pytree(problem.theta)
    # derivatives don't ask how w* was found, nor whether it is the solution: compiled once
    w_star = jax.jit(lambda t: problem.solver(problem.w0, unravel(t), *problem.aux))(point)

    def loss(point):
        theta = unravel(point)
        w = implicit.root(
            problem.constraint, lambda w0, *_: w0, w_star, theta, *problem.aux, hypergradient=method
        )
        return problem.outer_loss(w, theta, *problem.aux)

    def every(point, tangent):
        return {name: f(loss, point, tangent) for name, f in _TRANSFORMS.items()}

    return every, loss, point


def errors(problem, only=None, *, eager=False):
    """{method: {transform: error}} of the methods that are exact on the problem, or of some of
    them: ‖a − b‖ / ‖b‖ with b by `Dense` (where it is singular, `PseudoInverse`)."""
    names = [name for name in only or problem.methods if name in problem.exact]
    made = {name: derivatives(problem, problem.methods[name]) for name in names}
    reference = "dense" if "dense" in names else "pseudo-inverse"
    point = made[reference][2]
    tangent = jnp.cos(jnp.arange(point.size, dtype=point.dtype))
    found = jax.jit(lambda p, v: {name: every(p, v) for name, (every, *_) in made.items()})(
        point, tangent
    )
    for name, (_, loss, _) in made.items():
        step = jax.jit(lambda t, f=loss: t - jax.grad(f)(t), donate_argnums=0)
        found[name]["donation"] = step(jnp.array(point))
        if eager:
            found[name]["grad, no jit"] = jax.grad(loss)(point)
    for row in found.values():
        assert all(leaf.dtype == point.dtype for leaf in row.values())
    return {
        name: {key: _relative(row[key], found[reference][key]) for key in row}
        for name, row in found.items()
    }


def _relative(a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def table(precision):
    """Markdown: a row a method, a column a transform."""
    largest, where = {}, {}
    for problem in map(implicit.problems.get, implicit.problems.names()):
        for name, row in errors(problem, eager=True).items():
            where.setdefault(name, []).append(problem.name)
            for key, error in row.items():
                cells = largest.setdefault(name, {})
                cells[key] = max(error, cells.get(key, 0.0))
    columns = list(next(iter(largest.values())))
    lines = [
        f"| {precision} | exact on | {' | '.join(columns)} |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for name, cells in largest.items():
        shown = " | ".join(f"{cells[key]:.0e}" if cells[key] else "0" for key in columns)
        lines.append(f"| `{name}` | {', '.join(where[name])} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    jax.config.update("jax_disable_most_optimizations", True)  # they take longer than the programs
    for precision in ("float64", "float32"):
        with jax.enable_x64(precision == "float64"):
            print(table(precision), end="\n\n")
