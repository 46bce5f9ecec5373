"""The MDP record (S, A, γ, p, r, ρ₀) of section 3, checked when a user builds it."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import sparse
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from omd.errors import InputError
from omd.tabular.successors import Successors, from_jax_sparse

Transitions = Float[Array, "S A S"] | Successors
"""Transition probabilities as the operators take them: dense, or lists of successors."""


class MDP(eqx.Module):
    """A finite MDP: P[S, A, S'], r[S, A], discount γ in [0, 1), initial distribution ρ₀[S].

    `transition` is a dense array, a `Successors`, or a `jax.experimental.sparse` BCOO / BCSR
    matrix [S·A, S'] (row s·A + a) or BCOO array [S, A, S'], which is kept as `Successors`.
    `initial` is uniform where it is left out.

    Raises `InputError` where shapes don't agree, an entry is negative or not finite, a row of P
    or ρ₀ doesn't sum to one, or γ lies outside [0, 1). Values are checked where they are
    concrete; inside `jit`, `vmap` or `grad` only shapes are.
    """

    transition: Transitions
    reward: Float[Array, "S A"]
    discount: Float[Array, ""]
    initial: Float[Array, " S"]

    def __init__(
        self,
        transition: ArrayLike | Successors | sparse.BCOO | sparse.BCSR,
        reward: ArrayLike,
        discount: ArrayLike,
        initial: ArrayLike | None = None,
    ):
        if isinstance(transition, sparse.BCOO | sparse.BCSR):
            transition = from_jax_sparse(transition)
        if not isinstance(transition, Successors):
            transition = _array("transition", transition)
        reward = _array("reward", reward)
        discount = _array("discount", discount)
        initial = None if initial is None else _array("initial", initial)
        _check_shapes(transition, reward, discount, initial)
        _check_values(transition, reward, discount, initial)

        weights = transition.probability if isinstance(transition, Successors) else transition
        dtype = jnp.result_type(weights, reward, jnp.float32)
        weights = jnp.asarray(weights, dtype)
        if isinstance(transition, Successors):
            self.transition = Successors(jnp.asarray(transition.index, jnp.int32), weights)
        else:
            self.transition = weights
        self.reward = jnp.asarray(reward, dtype)
        self.discount = jnp.asarray(discount, dtype)
        states = self.reward.shape[-2]
        self.initial = (
            jnp.full(states, 1 / states, dtype) if initial is None else jnp.asarray(initial, dtype)
        )

    @property
    def num_states(self) -> int:
        return self.reward.shape[-2]

    @property
    def num_actions(self) -> int:
        return self.reward.shape[-1]

    @property
    def is_sparse(self) -> bool:
        return isinstance(self.transition, Successors)


def _array(name: str, value: Any) -> Any:
    """`value` as an array of numbers in its own precision, so that checks see what was given."""
    array = value if isinstance(value, jax.Array) else np.asarray(value)
    if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool) or jnp.issubdtype(
        array.dtype, jnp.complexfloating
    ):
        raise InputError(
            f"{name} must be an array of real numbers, but its type is {array.dtype}; "
            "convert it to floating point."
        )
    return array


def _check_shapes(transition: Any, reward: Any, discount: Any, initial: Any) -> None:
    if isinstance(transition, Successors):
        index, probability = jnp.shape(transition.index), jnp.shape(transition.probability)
        if index != probability or len(index) != 3 or 0 in index:
            raise InputError(
                f"successors need index and probability of one shape [S, A, K], but have "
                f"{index} and {probability}; pad short rows with probability 0."
            )
        if not jnp.issubdtype(transition.index.dtype, jnp.integer):
            raise InputError(
                f"successor indices must be integers, but their type is {transition.index.dtype}; "
                "convert them to int32."
            )
    shape = tuple(transition.shape)
    if len(shape) != 3 or shape[0] != shape[2] or 0 in shape:
        raise InputError(
            f"transition needs shape [S, A, S'] with S' = S, but has {shape}; "
            "put the axes in the order state, action, next state."
        )
    if tuple(reward.shape) != shape[:2]:
        raise InputError(
            f"reward has shape {tuple(reward.shape)} where transition asks for [S, A] = "
            f"{shape[:2]}; give one reward for each state and action."
        )
    if tuple(discount.shape) != ():
        raise InputError(
            f"discount must be one number, but has shape {tuple(discount.shape)}; "
            "vmap over MDPs for several discounts."
        )
    if initial is not None and tuple(initial.shape) != shape[:1]:
        raise InputError(
            f"initial has shape {tuple(initial.shape)} where transition asks for [S] = "
            f"{shape[:1]}; give one probability for each state."
        )


def _check_values(transition: Any, reward: Any, discount: Any, initial: Any) -> None:
    gamma = _concrete(discount)
    if gamma is not None and not 0 <= gamma < 1:
        raise InputError(f"discount must lie in [0, 1), but is {gamma}; choose one below 1.")
    rewards = _concrete(reward)
    if rewards is not None and not np.isfinite(rewards).all():
        at = _first(~np.isfinite(rewards))
        raise InputError(f"reward{at} is {rewards[at]}; every reward must be finite.")
    if isinstance(transition, Successors):
        index = _concrete(transition.index)
        if index is not None and not ((index >= 0) & (index < transition.shape[0])).all():
            at = _first((index < 0) | (index >= transition.shape[0]))
            raise InputError(
                f"successor index{at} is {index[at]}, but states are numbered 0 to "
                f"{transition.shape[0] - 1}; pad with a valid index and probability 0."
            )
        rows = _concrete(transition.probability)
    else:
        rows = _concrete(transition)
    if rows is not None:
        _check_distributions("transition", rows)
    start = _concrete(initial)
    if start is not None:
        _check_distributions("initial", start)


def _check_distributions(name: str, rows: np.ndarray) -> None:
    """Every last-axis row is a distribution, up to the rounding of its own precision."""
    bad = ~(np.isfinite(rows) & (rows >= 0))
    if bad.any():
        at = _first(bad)
        raise InputError(
            f"{name}{at} is {rows[at]}; every probability must be finite and not negative."
        )
    sums = rows.sum(axis=-1, dtype=np.float64)
    tolerance = 1e-9 if rows.dtype.itemsize >= 8 else 1e-5
    wrong = np.atleast_1d(np.abs(sums - 1) > tolerance)
    if wrong.any():
        at = _first(wrong)
        row = "initial" if rows.ndim == 1 else f"the row of {name} for (state, action) = {at}"
        raise InputError(
            f"{row} sums to {np.atleast_1d(sums)[at]!s} and not to 1; "
            "divide it by its sum or add what is missing."
        )


def _concrete(value: Any) -> np.ndarray | None:
    return None if value is None or isinstance(value, jax.core.Tracer) else np.asarray(value)


def _first(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(mask.argmax()), mask.shape))
