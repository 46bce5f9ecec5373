"""The implicit function theorem as a vector-Jacobian product, eq. (7) and appendix A."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from omd.errors import InputError
from omd.implicit import validation
from omd.implicit.trees import Product, floats, is_float, scale

CONSTRAINT_HINT = (
    "the constraint h(w, theta, *aux) must give one number for each number in w, such as "
    "w - T(w, theta) for a fixed point or the gradient in w for an inner minimum"
)


def constant(tree: PyTree) -> PyTree:
    """The same tree, with no derivative in any of its arrays."""
    dynamic, static = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.lax.stop_gradient(dynamic), static)


def vjp_in_w(constraint: Callable[..., PyTree], w: PyTree, theta: PyTree, aux: tuple) -> Product:
    """v -> (∂h/∂w)ᵀ v at w. Compiled, it costs nothing where it is never called."""
    diff, rest = eqx.partition(w, is_float)
    h, vjp = jax.vjp(lambda d: floats(constraint(eqx.combine(d, rest), theta, *aux)), diff)
    validation.matches("the constraint's output", h, w, CONSTRAINT_HINT)
    return lambda v: vjp(v)[0]


def total_loss(outer_loss: Callable[..., Array], w: PyTree, theta: PyTree, aux: tuple) -> Array:
    """outer_loss(w, θ, *aux), checked to be a scalar."""
    value = outer_loss(w, theta, *aux)
    if jnp.shape(value) != ():
        raise InputError(
            f"outer_loss must return a scalar, not an array of shape {jnp.shape(value)}."
        )
    return value


@eqx.filter_custom_vjp
def implicit_function(differentiable, w, method, on_report=None):
    """w, with the theorem as its derivative in differentiable = (constraint, θ, aux).

    The constraint must not close over arrays: convert it first. w, as given, is a constant.
    """
    del differentiable, method, on_report
    return w


@implicit_function.def_fwd
def _forward(perturbed, differentiable, w, method, on_report=None):
    del perturbed
    # itself, not w: where the gradient is differentiated again, w depends on θ there too
    w = implicit_function(differentiable, w, method, on_report)
    return w, w


@implicit_function.def_bwd
def _backward(w, g, perturbed, differentiable, _: Any, method, on_report=None):
    g = jax.tree.map(
        lambda wi, gi: jnp.zeros_like(wi) if gi is None and wi is not None else gi,
        floats(w),
        g,
        is_leaf=lambda leaf: leaf is None,
    )
    constraint, theta, aux = differentiable
    u, report = method.solve(vjp_in_w(constraint, w, theta, aux), g)
    if on_report is not None:
        jax.debug.callback(on_report, report)
    wanted, rest = eqx.partition(differentiable, perturbed)

    def h(wanted):
        constraint, theta, aux = eqx.combine(wanted, rest)
        return floats(constraint(w, theta, *aux))

    _, vjp = jax.vjp(h, wanted)
    return vjp(scale(-1, u))[0]
