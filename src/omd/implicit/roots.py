"""The implicit function φ(θ) = w* with h(w*, θ, *aux) = 0 and its gradient, eq. (7), appendix A."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from omd.errors import InputError
from omd.implicit import validation
from omd.implicit.iterative import GMRES, Refinement, Transposed
from omd.implicit.methods import AbstractMethod
from omd.implicit.report import Report
from omd.implicit.theorem import (
    CONSTRAINT_HINT,
    Watch,
    constant,
    implicit_function,
    linear_solution,
    plain_failures,
    total_loss,
)
from omd.implicit.trees import as_arrays, floats, is_float, subtract, widened

Constraint = Callable[..., PyTree]
"""(w, θ, *aux) -> pytree like w, zero at the solution."""
Solver = Callable[..., Any]
"""(w0, θ, *aux) -> w, or (w, extra) where `has_aux`."""


def root(
    constraint: Constraint,
    solver: Solver,
    w0: PyTree,
    theta: PyTree,
    *aux: Any,
    hypergradient: AbstractMethod | None = None,
    has_aux: bool = False,
    has_factors: bool = False,
    adjoint_init: PyTree | None = None,
    throw: bool = True,
    on_report: Callable[[Report], None] | None = None,
) -> Any:
    """w* = solver(w0, θ, *aux), with the implicit function theorem as its derivative.

    Differentiable in θ, in aux and in arrays that `constraint` closes over, in forward and reverse
    mode and to any order; leaves that are not floating point (integers, random keys, functions)
    have no derivative. Python floats count as arrays; other Python values stay as they are. The
    derivative in w0 is exactly zero, and so is that of `extra`, which is returned as is where
    `has_aux`. The solver is a black box, never differentiated. Works under jit and vmap.

    `hypergradient` says how to solve (∂h/∂w)ᵀ u = g, and (∂h/∂w) v = b in forward mode; the default
    is `GMRES()`, which asks nothing of the Jacobian but to be non-singular. A solve that missed its
    tolerance raises, also from compiled code, at the latest in `jax.block_until_ready`: JAX's
    RuntimeError, or a ValueError where the same program has run well before or NumPy reads the
    array (JAX's issue 34083), so catch both; with `throw=False` it doesn't raise.
    `on_report` is called with each solve's `Report` (through `jax.debug.callback`). Approximations,
    such as `Identity`, claim no tolerance and don't raise.

    `has_factors` says that the solver returns (w, inverse), or (w, inverse, extra), with a function
    or linear operator near v -> (∂h/∂w)⁻¹ v, such as the LU factors of Newton's last step. It is
    the hypergradient's preconditioner; the default is `Refinement` then. `adjoint_init`, a pytree
    like w, is a first guess of u; the report that `on_report` gets then holds u, the next one.

    Half-precision leaves are differentiated in float32: the constraint must work in it too.

    Raises `InputError` where the constraint's output or the solver's is not like w0.
    """
    w0 = as_arrays(w0)
    theta, aux = as_arrays((theta, aux), w0)
    validation.has_floats("w0", w0)
    validation.is_real("theta", theta)
    validation.is_real("aux", aux)
    # hoists the arrays that the constraint closes over, so that they get their gradient too
    wide = widened((w0, theta, aux))
    closed: Any = eqx.filter_closure_convert(constraint, wide[0], wide[1], *wide[2])
    out_struct = widened(closed.out_struct)
    validation.matches("the constraint's output", out_struct, wide[0], CONSTRAINT_HINT)
    out = as_arrays(constant(solver(*constant((w0, theta, *aux)))), w0)
    length = 1 + has_factors + has_aux
    if length > 1 and not (isinstance(out, tuple) and len(out) == length):
        wanted = ", ".join(["w", *["inverse"] * has_factors, *["extra"] * has_aux])
        raise InputError(
            f"with {'has_factors' if has_factors else 'has_aux'}=True the solver must return a "
            f"{'pair' if length == 2 else 'triple'} ({wanted}), not {type(out).__name__}."
        )
    w, *extra = out if length > 1 else (out,)
    if has_factors:
        if not callable(getattr(extra[0], "mv", extra[0])):
            raise InputError(
                f"with has_factors=True the solver's second value must be a function or a linear "
                f"operator v -> (dh/dw)^-1 v, not {type(extra[0]).__name__}."
            )
        # a gradient asks for the transpose
        inverse = Transposed(extra.pop(0))
        method = Refinement(inverse) if hypergradient is None else _method(hypergradient)
        method = method.preconditioned(inverse)
    else:
        method = _method(GMRES() if hypergradient is None else hypergradient)
    validation.matches("the solver's answer", w, w0)
    diff, fixed = eqx.partition(w, is_float)
    start = None if adjoint_init is None else _like_w("adjoint_init", adjoint_init, w)
    watch = Watch(throw, on_report)
    diff = implicit_function((closed, theta, aux), diff, fixed, start, constant(method), watch)
    w = eqx.combine(diff, fixed)
    return (w, *extra) if has_aux else w


def hypergradient(
    outer_loss: Callable[..., Array],
    constraint: Constraint,
    w_star: PyTree,
    theta: PyTree,
    *aux: Any,
    method: AbstractMethod | None = None,
    check: bool = False,
    adjoint_init: PyTree | None = None,
    throw: bool = True,
) -> tuple[PyTree, Report]:
    """(dJ/dθ, report) for J(θ) = outer_loss(w*(θ), θ, *aux), eq. (5) and (7), at a given w*.

    The total derivative: ∂J/∂θ − u · ∂h/∂θ with (∂h/∂w)ᵀ u = ∂J/∂w. A pytree like θ, `None` for
    leaves that are not floating point. That h(w*) = 0 is taken on trust. `method` defaults to
    `GMRES()`; `check` makes approximations measure their residual too (one more product). A solve
    that missed its tolerance raises a RuntimeError (within compiled code and other transformations
    as for `root`), unless `throw=False`. `adjoint_init`, a pytree like w, is a first guess of u;
    the report's `solution` is u then, for the next call. Differentiable itself.

    Raises `InputError` where the constraint's output is not like w_star or the loss is no scalar.
    """
    return _total_derivative(
        outer_loss,
        constraint,
        w_star,
        theta,
        aux,
        method,
        many=False,
        check=check,
        adjoint_init=adjoint_init,
        throw=throw,
    )


def _total_derivative(
    outer: Callable[..., Array],
    constraint: Constraint,
    w_star: PyTree,
    theta: PyTree,
    aux: tuple,
    method: AbstractMethod | None,
    *,
    many: bool,
    check: bool = False,
    adjoint_init: PyTree | None = None,
    throw: bool,
) -> tuple[PyTree, Report]:
    """The gradient of a scalar `outer`, or where `many` the Jacobian [m, ...] of a vector [m]."""
    method = _method(GMRES() if method is None else method)
    w_star = as_arrays(w_star)
    theta, aux = as_arrays((theta, aux), w_star)
    validation.has_floats("w_star", w_star)
    validation.has_floats("theta", theta)
    validation.is_real("aux", aux)
    w_diff, w_rest = eqx.partition(w_star, is_float)
    theta_diff, theta_rest = eqx.partition(theta, is_float)

    def loss(w_diff, theta_diff):
        w, theta = eqx.combine(w_diff, w_rest), eqx.combine(theta_diff, theta_rest)
        return outer(w, theta, *aux) if many else total_loss(outer, w, theta, aux)

    def h(w_diff, theta_diff):
        w, theta = eqx.combine(w_diff, w_rest), eqx.combine(theta_diff, theta_rest)
        out = widened(floats(constraint(w, widened(theta), *widened(aux))))
        validation.matches("the constraint's output", out, w, CONSTRAINT_HINT)
        return out

    differentiate = jax.jacrev if many else jax.grad
    g, direct = differentiate(loss, argnums=(0, 1))(w_diff, theta_diff)
    wide = widened(w_diff)
    start = None if adjoint_init is None else _like_w("adjoint_init", adjoint_init, w_star)
    with plain_failures():
        u, report = linear_solution(
            lambda w: h(w, theta_diff),
            wide,
            widened(g),
            constant(method),
            Watch(throw),
            adjoint=True,
            many=many,
            check=check,
            start=start,
        )
        pull = jax.vjp(lambda t: h(wide, t), theta_diff)[1]
        (implicit,) = jax.vmap(pull)(u) if many else pull(u)
        # outside of compiled code a failure is raised here, not where the answer is read
        return jax.block_until_ready((subtract(direct, implicit), report))


def jacobian(
    outer: Callable[..., Array],
    constraint: Constraint,
    w_star: PyTree,
    theta: PyTree,
    *aux: Any,
    method: AbstractMethod | None = None,
    throw: bool = True,
) -> tuple[PyTree, Report]:
    """(d outer/dθ, report) where outer(w, θ, *aux) is a vector [m]: as `hypergradient`, for all m
    right-hand sides at once. Leaves of both have a leading axis [m].

    The methods that form a matrix factorise it once for all. `CG`, `NormalCG` and `GMRES` search
    one space for all right-hand sides (a block Krylov method): each product is one with m vectors,
    and there are fewer of them than for the hardest right-hand side alone.
    """
    values = jax.eval_shape(lambda: outer(w_star, theta, *aux))
    dtype = getattr(values, "dtype", None)
    real = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
    if not real or values.ndim != 1:
        raise InputError(
            f"outer must return a vector of floating-point numbers, not "
            f"{jax.tree.map(validation.describe, values)!r}."
        )
    return _total_derivative(outer, constraint, w_star, theta, aux, method, many=True, throw=throw)


def from_fixed_point(operator: Callable[..., PyTree]) -> Constraint:
    """The constraint h = w − T(w, θ, *aux) of a fixed point w = T(w, θ, *aux)."""

    def constraint(w, *args, **kwargs):
        image = operator(w, *args, **kwargs)
        validation.matches("the operator's output T(w, theta)", image, w)
        return subtract(floats(w), floats(image))

    return constraint


def _like_w(name: str, value: PyTree, w: PyTree) -> PyTree:
    """value in w's precisions, checked to have its structure and shapes."""
    validation.is_real(name, value)
    wide = widened(floats(w))
    given = as_arrays(value, w)
    structures: list[Any] = [jax.tree.structure(tree) for tree in (given, w)]
    if structures[0] == structures[1]:  # integers are good guesses too
        given = jax.tree.map(
            lambda x, wi: x if wi is None else jnp.asarray(x, wi.dtype),
            given,
            wide,
            is_leaf=lambda x: x is None,
        )
    given = floats(given)
    validation.matches(name, given, wide)
    return given


def _method(value: Any) -> AbstractMethod:
    if not isinstance(value, AbstractMethod):
        raise InputError(
            f"the hypergradient must be a method such as implicit.CG(damping=1e-3), not {value!r} "
            "(a name is turned into one by implicit.get; Unrolled has its own hypergradient)."
        )
    return value
