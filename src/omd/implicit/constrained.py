"""Inner problems with constraints of their own: the KKT conditions, and a solver on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from omd.implicit.roots import Constraint, Solver
from omd.implicit.trees import dot


class KKT(NamedTuple):
    """A solution of a constrained problem with its multipliers: the w of `kkt`."""

    primal: PyTree
    equality: PyTree = None
    """One multiplier ν for each equality."""
    inequality: PyTree = None
    """One multiplier λ ≥ 0 for each inequality."""


def kkt(
    objective: Callable[..., Array],
    equality: Callable[..., PyTree] | None = None,
    inequality: Callable[..., PyTree] | None = None,
) -> Constraint:
    """The constraint h(w, θ, *aux), w a `KKT`, of: minimise objective(x, θ, *aux) where
    equality(x, θ, *aux) = 0 and inequality(x, θ, *aux) ≤ 0.

    h = (∇ₓ(objective + ν·equality + λ·inequality), equality, λ ∘ inequality). Its Jacobian is not
    symmetric with inequalities, and singular where one of them holds with equality and λ = 0:
    there the solution has no derivative.
    """

    def constraint(w: KKT, theta: PyTree, *aux: Any) -> KKT:
        def lagrangian(x: PyTree) -> Array:
            value = objective(x, theta, *aux)
            if equality is not None:
                value = value + dot(w.equality, equality(x, theta, *aux))
            if inequality is not None:
                value = value + dot(w.inequality, inequality(x, theta, *aux))
            return value

        slack = None if inequality is None else inequality(w.primal, theta, *aux)
        return KKT(
            jax.grad(lagrangian)(w.primal),
            None if equality is None else equality(w.primal, theta, *aux),
            None if slack is None else jax.tree.map(jnp.multiply, w.inequality, slack),
        )

    return constraint


def on_host(solver: Solver) -> Solver:
    """A solver in NumPy, such as one of `scipy.optimize`, as one that can be compiled: it is called
    back on the host. It must return a pytree like w0; under vmap it is called once a lane."""

    def called(w0: PyTree, *args: Any) -> PyTree:
        def run(w0: PyTree, *args: Any) -> PyTree:
            w = solver(*jax.tree.map(np.asarray, (w0, *args)))
            return jax.tree.map(lambda x, like: np.asarray(x, like.dtype), w, w0)

        shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, w0))
        return jax.pure_callback(run, shapes, w0, *args, vmap_method="sequential")

    return called
