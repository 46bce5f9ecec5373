"""The implicit function φ(θ) = w* with h(w*, θ, *aux) = 0 and its gradient, eq. (7), appendix A."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from omd.errors import InputError
from omd.implicit import validation
from omd.implicit.iterative import GMRES
from omd.implicit.methods import AbstractMethod
from omd.implicit.report import Report
from omd.implicit.theorem import CONSTRAINT_HINT, constant, implicit_function, total_loss, vjp_in_w
from omd.implicit.trees import as_arrays, floats, is_float, subtract

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
    on_report: Callable[[Report], None] | None = None,
) -> Any:
    """w* = solver(w0, θ, *aux), with the implicit function theorem as its reverse-mode derivative.

    Differentiable in θ, in aux and in arrays that `constraint` closes over; leaves that are not
    floating point (integers, random keys, functions) have no gradient. Python floats count as
    arrays; other Python values stay as they are. The gradient in w0 is exactly zero, and so is
    that of `extra`, which is returned as is where `has_aux`. The solver is a black box, never
    differentiated. Works under jit and vmap; reverse mode only, to any order.

    `hypergradient` says how to solve (∂h/∂w)ᵀ u = g; the default is `GMRES()`, which asks nothing
    of the Jacobian but to be non-singular. `on_report` is called with the solve's `Report` at
    each backward pass (through `jax.debug.callback`); without it a solve that failed goes unseen
    here, and the explicit form `hypergradient` is the one to use where that matters.

    Raises `InputError` where the constraint's output or the solver's is not like w0.
    """
    method = _method(GMRES() if hypergradient is None else hypergradient)
    w0, theta, aux = as_arrays((w0, theta, aux))
    validation.has_floats("w0", w0)
    # hoists the arrays that the constraint closes over, so that they get their gradient too
    closed: Any = eqx.filter_closure_convert(constraint, w0, theta, *aux)
    validation.matches("the constraint's output", closed.out_struct, w0, CONSTRAINT_HINT)
    out = as_arrays(constant(solver(*constant((w0, theta, *aux)))))
    if has_aux and not (isinstance(out, tuple) and len(out) == 2):
        raise InputError(
            f"with has_aux=True the solver must return a pair (w, extra), not {type(out).__name__}."
        )
    w, *extra = out if has_aux else (out,)
    validation.matches("the solver's answer", w, w0)
    w = implicit_function((closed, theta, aux), w, constant(method), on_report)
    return (w, *extra) if has_aux else w


def hypergradient(
    outer_loss: Callable[..., Array],
    constraint: Constraint,
    w_star: PyTree,
    theta: PyTree,
    *aux: Any,
    method: AbstractMethod | None = None,
    check: bool = False,
) -> tuple[PyTree, Report]:
    """(dJ/dθ, report) for J(θ) = outer_loss(w*(θ), θ, *aux), eq. (5) and (7), at a given w*.

    The total derivative: ∂J/∂θ − u · ∂h/∂θ with (∂h/∂w)ᵀ u = ∂J/∂w. A pytree like θ, `None` for
    leaves that are not floating point. That h(w*) = 0 is taken on trust. `method` defaults to
    `GMRES()`; `check` makes approximations measure their residual too (one more product).

    Raises `InputError` where the constraint's output is not like w_star or the loss is no scalar.
    """
    method = _method(GMRES() if method is None else method)
    w_star, theta, aux = as_arrays((w_star, theta, aux))
    validation.has_floats("w_star", w_star)
    validation.has_floats("theta", theta)
    w_diff, w_rest = eqx.partition(w_star, is_float)
    theta_diff, theta_rest = eqx.partition(theta, is_float)

    def loss(w_diff, theta_diff):
        w, theta = eqx.combine(w_diff, w_rest), eqx.combine(theta_diff, theta_rest)
        return total_loss(outer_loss, w, theta, aux)

    g, direct = jax.grad(loss, argnums=(0, 1))(w_diff, theta_diff)
    u, report = method.solve(vjp_in_w(constraint, w_star, theta, aux), g, check=check)
    _, vjp = jax.vjp(
        lambda t: floats(constraint(w_star, eqx.combine(t, theta_rest), *aux)), theta_diff
    )
    (implicit,) = vjp(u)
    return subtract(direct, implicit), report


def from_fixed_point(operator: Callable[..., PyTree]) -> Constraint:
    """The constraint h = w − T(w, θ, *aux) of a fixed point w = T(w, θ, *aux)."""

    def constraint(w, theta, *aux):
        image = operator(w, theta, *aux)
        validation.matches("the operator's output T(w, theta)", image, w)
        return subtract(floats(w), floats(image))

    return constraint


def _method(value: Any) -> AbstractMethod:
    if not isinstance(value, AbstractMethod):
        raise InputError(
            f"the hypergradient must be a method such as implicit.CG(damping=1e-3), not {value!r} "
            "(a name is turned into one by implicit.get; Unrolled has its own hypergradient)."
        )
    return value
