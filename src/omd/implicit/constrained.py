"""Inner problems with constraints of their own: the KKT conditions, and a solver on the host."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from omd.errors import InputError
from omd.implicit.roots import Constraint, Solver
from omd.implicit.theorem import total_loss
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
    there the solution has no derivative. The constraint raises `InputError` where the multipliers
    in w are not like what `equality` or `inequality` return.
    """

    def constraint(w: KKT, theta: PyTree, *aux: Any) -> KKT:
        if not isinstance(w, KKT):
            raise InputError(
                f"the w of kkt's constraint is an implicit.KKT, not {type(w).__name__}."
            )

        def lagrangian(x: PyTree) -> Array:
            value = total_loss(objective, x, theta, aux, "the objective")
            if equality is not None:
                value = value + dot(w.equality, _like("equality", equality(x, theta, *aux), w))
            if inequality is not None:
                value = value + dot(
                    w.inequality, _like("inequality", inequality(x, theta, *aux), w)
                )
            return value

        slack = None if inequality is None else inequality(w.primal, theta, *aux)
        return KKT(
            eqx.filter_grad(lagrangian)(w.primal),
            None if equality is None else equality(w.primal, theta, *aux),
            None if slack is None else jax.tree.map(jnp.multiply, w.inequality, slack),
        )

    return constraint


def _like(name: str, values: PyTree, w: KKT) -> PyTree:
    """values, checked to be like their multipliers in w."""
    multipliers = getattr(w, name)
    seen = [
        (jax.tree.structure(tree), [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (values, multipliers)
    ]
    if seen[0] != seen[1]:
        shapes = [jax.tree.map(jnp.shape, tree) for tree in (values, multipliers)]
        raise InputError(
            f"{name} returns the shape {shapes[0]}, but w.{name} has {shapes[1]}: give one "
            "multiplier for each of its numbers."
        )
    return values


def on_host(solver: Solver) -> Solver:
    """A solver in NumPy, such as one of `scipy.optimize`, as one that can be compiled: it is called
    back on the host. It must return a pytree like w0, in any precision; under vmap it is called
    once a lane. Arrays come as NumPy's, random keys and other values as they are."""

    @functools.wraps(solver)
    def called(w0: PyTree, *args: Any, **kwargs: Any) -> PyTree:
        shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, w0))
        given, rest = eqx.partition(((w0, *args), kwargs), eqx.is_array_like)

        def run(given: PyTree) -> PyTree:
            given = jax.tree.map(lambda x: x if _is_key(x) else np.asarray(x), given)
            args, kwargs = eqx.combine(given, rest)
            w = solver(*args, **kwargs)
            got, want = (jax.tree.map(np.shape, tree) for tree in (w, shapes))
            if got != want:
                raise InputError(
                    f"the solver on the host returns the shape {got}, but w0 has {want}: it must "
                    "return a pytree like w0."
                )
            return jax.tree.map(lambda x, like: np.asarray(x, like.dtype), w, shapes)

        return jax.pure_callback(run, shapes, given, vmap_method="sequential")

    return called


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key) if hasattr(x, "dtype") else False
