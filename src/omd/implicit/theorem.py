"""The implicit function theorem in both modes of differentiation, eq. (7) and appendix A."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from omd.errors import InputError
from omd.implicit import validation
from omd.implicit.methods import AbstractMethod
from omd.implicit.report import Report, Status, judge
from omd.implicit.trees import Product, floats, norm, scale, widened

CONSTRAINT_HINT = (
    "the constraint h(w, theta, *aux) must give one number for each number in w, such as "
    "w - T(w, theta) for a fixed point or the gradient in w for an inner minimum"
)


def constant(tree: PyTree) -> PyTree:
    """The same tree, with no derivative in any of its arrays."""
    dynamic, static = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.lax.stop_gradient(dynamic), static)


def total_loss(
    outer_loss: Callable[..., Array],
    w: PyTree,
    theta: PyTree,
    aux: tuple,
    name: str = "outer_loss",
) -> Array:
    """outer_loss(w, θ, *aux), checked to be a scalar; `name` is what a sentence calls it."""
    value = outer_loss(w, theta, *aux)
    seen = jax.tree.map(validation.describe, value)
    if not jax.tree_util.treedef_is_leaf(jax.tree.structure(value)) or value is None:
        raise InputError(f"{name} must return a scalar, not {seen!r}.")
    if jnp.shape(value) != ():
        raise InputError(f"{name} must return a scalar, not an array of shape {jnp.shape(value)}.")
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise InputError(f"{name} must return a real floating-point number, not {seen}.")
    return value


@dataclasses.dataclass(frozen=True)
class Watch:
    """What happens to the report of each linear solve behind a derivative."""

    throw: bool = True
    on_report: Callable[[Report], None] | None = None

    def __call__(self, u: PyTree, report: Report) -> PyTree:
        """u; raises from outside or inside compiled code where the solve failed and `throw`."""
        if self.on_report is not None:
            jax.debug.callback(self.on_report, report)
        if not self.throw or not jax.tree.leaves(u):
            return u
        failed = jnp.ravel(report.failed)
        if not failed.size:
            return u
        status = jnp.ravel(report.status)[jnp.argmax(failed)]  # the first that failed
        return eqx.branched_error_if(u, jnp.any(failed), status, _FAILURES)


_FAILURES = [
    f"omd.implicit: the linear solve behind a derivative failed. {status.sentence} (throw=False "
    "goes on with what was found, on_report shows its residual.)"
    for status in Status
]


@contextlib.contextmanager
def plain_failures() -> Iterator[None]:
    """A failed solve in the block is a RuntimeError of one sentence: JAX hands on the text of what
    `Watch` raises within a trace, as a JaxRuntimeError, or as a ValueError where the same program
    has run well before (its issue 34083). Wait for the results within the block."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        sentence = next((failure for failure in _FAILURES if failure in str(error)), None)
        if sentence is None:
            raise
        raise RuntimeError(sentence) from None


def linear_solution(
    constraint: Callable[[PyTree], PyTree],
    w: PyTree,
    right: PyTree,
    method: AbstractMethod,
    watch: Watch,
    *,
    adjoint: bool,
    many: bool = False,
    check: bool = False,
    start: PyTree | None = None,
) -> tuple[PyTree, Report]:
    """u with (∂h/∂w) u = right, or its transpose where `adjoint`, for h = constraint at w.
    With `many`, right-hand sides, answers and reports are stacked along a leading axis.

    Differentiable in both modes and to any order, by the derivative of a linear system: `method`
    solves whatever system comes up. It is never differentiated itself. `start` is a first guess of
    the transposed system's answer; where it is given, the report holds the answer.
    """

    init = constant(start)
    closed: Any = eqx.filter_closure_convert(constraint, w)

    def forward() -> Product:
        return jax.linearize(closed, w)[1]

    def backward() -> Product:
        pull = jax.vjp(closed, w)[1]
        return lambda v: pull(v)[0]

    def solution(
        product: Callable[[], Product], method: AbstractMethod, start: PyTree | None = None
    ) -> Callable[..., Any]:
        def solve(_: Product, right: PyTree) -> tuple[PyTree, Report]:
            # linearised here, not outside: what the products need is then made where they are
            # taken, and not kept from the forward pass on
            if not sum(leaf.size for leaf in jax.tree.leaves(right)):  # nothing to solve
                none = jnp.zeros(jax.tree.leaves(right)[0].shape[:1] if many else ())
                u, report = right, judge(none, none, none, 0.0, Status.STAGNATED)
            elif many:
                u, report = method.solve_many(product(), right, check=check)
            elif start is None:
                u, report = method.solve(product(), right, check=check)
            else:
                first = scale(norm(right) > 0, start)  # where right = 0, so is the answer
                u, report = method.solve_from(first, product(), right, check=check)
            if init is not None:  # both sides, for a report has one structure
                report = report._replace(solution=u)
            return watch(u, report), report

        return solve

    lanes = jax.vmap if many else lambda f: f
    sides = [
        (
            lanes(lambda v: jax.jvp(closed, (w,), (v,))[1]),
            solution(forward, method.transposed()),
        ),
        (lanes(lambda v: backward()(v)), solution(backward, method, init)),
    ]
    (product, solve), (_, transpose_solve) = reversed(sides) if adjoint else sides
    # JAX differentiates a linear solve only where each leaf of its right-hand side, and of the
    # cotangent of its answer, has a tangent as soon as anything in it has one
    right = tied(right, (closed, w))
    u, report = jax.lax.custom_linear_solve(product, right, solve, transpose_solve, has_aux=True)
    return tied(u, (closed, w)), report


def tied(tree: PyTree, others: PyTree) -> PyTree:
    """The same tree, each leaf with the tangents and cotangents of all leaves, and of `others`.

    What is added, and multiplied by, is a constant that the compiler sees through.
    """

    def zero(tree: PyTree) -> Any:
        leaves = [leaf for leaf in jax.tree.leaves(floats(tree)) if leaf.size]
        return sum(jnp.where(False, jnp.ravel(x)[0].astype(jnp.float32), 0) for x in leaves)

    one = 1 + zero(others)
    tree = jax.tree.map(lambda x: x * jnp.asarray(one, x.dtype), tree)
    nothing = zero(tree)
    return jax.tree.map(lambda x: x + jnp.asarray(nothing, x.dtype), tree)


@eqx.filter_custom_jvp
def implicit_function(differentiable, diff, fixed, start, method, watch):
    """diff, the floating-point leaves of w, with the theorem as its derivative in differentiable
    = (constraint, θ, aux); `fixed` are the other leaves of w, `start` as in `linear_solution`.

    The constraint must not close over arrays: convert it first, at the arguments' `widened` types.
    diff, as given, is a constant.
    """
    del differentiable, fixed, start, method, watch
    return diff


@implicit_function.def_jvp
def _tangent(primals, tangents):
    differentiable, w, fixed, start, method, watch = primals
    moving, *_ = tangents
    # itself, not w: where the derivative is differentiated again, w depends on θ there too
    w = implicit_function(differentiable, w, fixed, start, method, watch)
    moves = jax.tree.map(
        lambda _, t: t is not None, differentiable, moving, is_leaf=lambda x: x is None
    )
    moved, rest = eqx.partition(differentiable, moves)
    diff = widened(w)

    def h(diff, moved):
        constraint, theta, aux = eqx.combine(moved, rest)
        out = constraint(eqx.combine(diff, fixed), widened(theta), *widened(aux))
        return widened(floats(out))

    # computed again on the way back, instead of kept from the forward pass on
    in_theta = jax.checkpoint(lambda moved: h(diff, moved), prevent_cse=False)
    _, right = jax.jvp(in_theta, (moved,), (moving,))
    u, _ = linear_solution(
        lambda diff: h(diff, moved),
        diff,
        scale(-1, right),
        method,
        watch,
        adjoint=False,
        start=start,
    )
    return w, jax.tree.map(lambda ui, wi: ui.astype(wi.dtype), u, w)
