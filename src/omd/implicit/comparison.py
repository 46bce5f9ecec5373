"""Hypergradients beside finite differences, `Dense` and `Unrolled`, on a problem of one's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from omd.errors import InputError, closest
from omd.implicit import validation
from omd.implicit.direct import Dense
from omd.implicit.methods import AbstractMethod
from omd.implicit.registry import classes, get
from omd.implicit.report import Status
from omd.implicit.roots import Constraint, Solver, hypergradient
from omd.implicit.theorem import total_loss
from omd.implicit.trees import as_arrays, floats, is_float, norm
from omd.implicit.unrolled import Unrolled


@dataclasses.dataclass(frozen=True)
class Row:
    """One way to the gradient. Errors are relative, ‖a − b‖ / ‖b‖; NaN where there is no b."""

    name: str
    gradient: PyTree
    error_differences: float
    """Against central finite differences, along the directions that were differenced."""
    error_dense: float
    error_unrolled: float
    residual: float
    iterations: int
    status: Status
    agrees: bool
    """Is `error_differences` within the tolerance?"""


@dataclasses.dataclass(frozen=True)
class GradCheck:
    """The result of `gradcheck`; `print(result)` shows `table()`."""

    rows: tuple[Row, ...]
    directional: np.ndarray
    """Finite differences, one for each direction [k]."""
    eps: float
    tolerance: float
    constraint_norm: float
    """‖h(w*)‖: the theorem asks for zero."""

    def __getitem__(self, name: str) -> Row:
        known = {row.name: row for row in self.rows}
        return known[closest("method", name, known)]

    @property
    def agreeing(self) -> tuple[str, ...]:
        """Names of the methods that agree with finite differences."""
        return tuple(row.name for row in self.rows if row.agrees)

    def table(self) -> str:
        """A plain-text table with one line a method and one on how the numbers were made."""
        head = ["method", "differences", "dense", "unrolled", "residual", "steps", "status", ""]
        lines = [head]
        for row in self.rows:
            errors = (row.error_differences, row.error_dense, row.error_unrolled, row.residual)
            shown = ["-" if np.isnan(x) else f"{x:.1e}" for x in errors]
            status = row.status.name.lower().replace("_", " ")
            verdict = "agrees" if row.agrees else "DIFFERS"
            lines.append([row.name, *shown, str(row.iterations), status, verdict])
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        text = [
            "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        text.append(
            f"relative errors against {len(self.directional)} central differences (eps "
            f"{self.eps:.1e}), dense and unrolled; agrees: within {self.tolerance:.0e} of the "
            f"differences; constraint at the solution: {self.constraint_norm:.1e}"
        )
        return "\n".join(text)

    __str__ = table


Methods = (
    Mapping[str, AbstractMethod] | Iterable[str | AbstractMethod] | str | AbstractMethod | None
)


def gradcheck(
    outer_loss: Callable[..., Array],
    constraint: Constraint,
    solver: Solver,
    w0: PyTree,
    theta: PyTree,
    *aux: Any,
    methods: Methods = None,
    unroll: Callable[..., PyTree] | None = None,
    unroll_steps: int = 1000,
    eps: float | None = None,
    tolerance: float | None = None,
    max_directions: int = 64,
    jit: bool = True,
) -> GradCheck:
    """Hypergradients of outer_loss(solver(w0, θ, *aux), θ, *aux) beside three references.

    `methods` are methods or names for `get`, one or several, or a mapping from labels to methods;
    by default all. `unroll` is an iteration step(w, θ, *aux) -> w for the unrolled reference, which
    starts at w*. The differences are taken by the solver, so it must be far more precise than `eps`
    (default: the cube root of the machine's) along each coordinate of θ, or along `max_directions`
    random directions where θ has more. `tolerance` defaults to 1e-6 in float64, 1e-2 in float32,
    1e-1 in half precision. `jit=False` is for solvers that can't be traced.

    Raises `InputError` for bad settings, and where a constraint or a step is not like w.
    """
    validation.count("max_directions", max_directions)
    theta, w0, aux = as_arrays((theta, w0, aux))
    validation.has_floats("theta", theta)
    diff, rest = eqx.partition(theta, is_float)
    flat, unravel = ravel_pytree(diff)
    machine = float(jnp.finfo(flat.dtype).eps)
    eps = machine ** (1 / 3) if eps is None else eps
    if tolerance is None:
        tolerance = 1e-6 if machine < 1e-10 else 1e-2 if machine < 1e-4 else 1e-1
    validation.number("eps", eps, positive=True)
    validation.number("tolerance", tolerance, positive=True)
    transform = eqx.filter_jit if jit else lambda f: f

    @transform
    def solve(point):
        """(w*, outer loss) at θ = point [n]."""
        theta = eqx.combine(unravel(point), rest)
        w = solver(w0, theta, *aux)
        return w, total_loss(outer_loss, w, theta, aux)

    def difference(direction):
        ahead, behind = (solve(flat + h * direction)[1] for h in (eps, -eps))
        return (ahead - behind) / (2 * eps)

    w_star, _ = solve(flat)
    directions = _directions(flat, max_directions)
    directional = np.array([float(difference(direction)) for direction in directions])
    chosen = _named(methods)
    named = [name for name, method in chosen.items() if method == Dense()]
    reference = {} if named else {_REFERENCE: Dense()}

    @transform
    def implicit():
        found = {
            name: hypergradient(
                outer_loss, constraint, w_star, theta, *aux, method=method, check=True, throw=False
            )
            for name, method in {**chosen, **reference}.items()
        }
        return found, norm(floats(constraint(w_star, theta, *aux)))

    found, constraint_norm = implicit()
    dense = found[named[0]] if named else found.pop(_REFERENCE)
    unrolled = None
    if unroll is not None:
        sibling = Unrolled(unroll_steps)
        unrolled = transform(
            lambda: sibling.hypergradient(outer_loss, unroll, w_star, theta, *aux)
        )()
        found["unrolled"] = unrolled

    rows = []
    for name in [*chosen, *(["unrolled"] if unrolled else [])]:
        gradient, report = found[name]
        vector = np.asarray(ravel_pytree(gradient)[0])
        error = _relative(np.asarray(directions) @ vector, directional)
        rows.append(
            Row(
                name=name,
                gradient=gradient,
                error_differences=error,
                error_dense=_relative(vector, ravel_pytree(dense[0])[0]),
                error_unrolled=_relative(vector, unrolled and ravel_pytree(unrolled[0])[0]),
                residual=float(report.residual),
                iterations=int(report.iterations),
                status=Status(int(report.status)),
                agrees=bool(error <= tolerance),
            )
        )
    return GradCheck(tuple(rows), directional, eps, tolerance, float(constraint_norm))


_REFERENCE = "the dense reference"


def _named(methods: Methods) -> dict[str, Any]:
    """Methods by what the table calls them."""
    if methods is None:
        methods = [name for name, kind in classes().items() if not kind.needs_least_squares]
    if isinstance(methods, Mapping):
        return dict(methods)
    if isinstance(methods, str | AbstractMethod):
        methods = [methods]
    if not isinstance(methods, Iterable):
        raise InputError(
            f"methods must be methods or their names, not {methods!r}: give such as "
            '["cg", implicit.GMRES()].'
        )
    names = {kind: name for name, kind in classes().items()}
    found: dict[str, Any] = {}
    for method in methods:
        if isinstance(method, AbstractMethod):
            name = names.get(type(method), type(method).__name__)
        else:
            name, method = method, get(method)
        if name in found:
            raise InputError(f"methods has {name} twice: give a mapping from labels to methods.")
        found[name] = method
    return found


def _directions(flat: Array, limit: int) -> Array:
    """Unit vectors [k, n]: the coordinates, or `limit` random ones where there are more."""
    if flat.size <= limit:
        return jnp.eye(flat.size, dtype=flat.dtype)
    random = jax.random.normal(jax.random.key(0), (limit, flat.size), flat.dtype)
    return random / jnp.linalg.norm(random, axis=1, keepdims=True)


def _relative(a: Any, b: Any) -> float:
    if b is None:
        return float("nan")
    size = float(np.linalg.norm(b))
    difference = float(np.linalg.norm(np.asarray(a) - np.asarray(b)))
    return difference / size if size > 0 else difference
