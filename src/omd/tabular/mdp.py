"""The MDP record (S, A, γ, p, r, ρ₀) of section 3, checked when a user builds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import sparse
from jaxtyping import Array, Bool, Float

from omd.errors import InputError
from omd.tabular.checks import real_array
from omd.tabular.kernels import Kernel, Numbers, as_kernel, from_jax_sparse

Transitions = Float[Array, "S A S"] | Kernel
"""Transition probabilities as the operators take them: a dense array, or a kernel."""


class MDP(eqx.Module):
    """A finite MDP: P[S, A, S'], r[S, A], discount γ, initial distribution ρ₀[S].

    `transition` is a dense array, a `Successors`, a `Factored`, or a `jax.experimental.sparse`
    BCOO / BCSR matrix [S·A, S'] (row s·A + a) or BCOO array [S, A, S'], kept as `Successors`.

    `reward` is r(s, a), or r(s, a, s') in the layout of the probabilities ([S, A, S'], or [S, A, K]
    beside `Successors`), which is reduced to its expectation. A reward of −∞ means that the action
    is not available in that state, as does False in `mask`[S, A]; the row of P is then free.

    `discount` is one number, one a state [S], one a pair [S, A], or one a transition in the layout
    of the probabilities. γ = 1 is taken where every policy ends: every choice of actions leads
    to a state that only leads to itself with reward 0, or to a discount below 1. Those are `ends`,
    and have value 0. It is kept in float64, whatever JAX's default precision: in float32 one loses
    1 − γ.

    `initial` is uniform where it is left out. `states` and `actions` are labels.

    Raises `InputError` where shapes don't agree, an entry is negative or not finite in the
    precision that is kept, a row of P or ρ₀ doesn't sum to one, γ lies outside [0, 1] or is 1
    where a policy never ends, or a state has no action. Values are checked where they are
    concrete; inside `jit`, `vmap` or `grad` only shapes are, and masks must be given as `mask`.
    With γ = 1 give `ends`[S] there, if transitions are traced too: they can't be found then. A
    traced reward of an end state that isn't 0 becomes NaN.
    """

    transition: Transitions
    reward: Float[Array, "S A"]
    discount: Float[Array, ""] | Float[Array, " S"] | Float[Array, "S A"] | Float[Array, "S A K"]
    initial: Float[Array, " S"]
    mask: Bool[Array, "S A"] | None
    ends: Bool[Array, " S"] | None
    """Where an undiscounted problem is over: no reward, no entropy, whatever the action."""
    states: tuple[str, ...] | None = eqx.field(static=True)
    actions: tuple[str, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        transition: Any,
        reward: Numbers,
        discount: Numbers,
        initial: Numbers | None = None,
        *,
        mask: Numbers | None = None,
        ends: Numbers | None = None,
        states: Sequence[str] | None = None,
        actions: Sequence[str] | None = None,
    ):
        if isinstance(transition, sparse.BCOO | sparse.BCSR):
            transition = from_jax_sparse(transition)
        kernel = as_kernel(
            transition if isinstance(transition, Kernel) else real_array("transition", transition)
        )
        reward = real_array("reward", reward)
        discount = real_array("discount", discount)
        initial = None if initial is None else real_array("initial", initial)
        mask = None if mask is None else real_array("mask", mask)
        _check_shapes(kernel, reward, discount, initial, mask)
        self.states = _labels("states", states, kernel.shape[0])
        self.actions = _labels("actions", actions, kernel.shape[1])
        name = _Names(self.states, self.actions)
        kernel, mask = _check_rows(kernel, reward, mask, name)
        reward, mask = _reduced(kernel, reward, mask, name)
        _check_initial(initial)
        ends = None if ends is None else jnp.asarray(ends, bool)
        ends = _check_discount(kernel, reward, discount, mask, ends, name)

        dtype = _precision(kernel, reward)
        kernel = kernel.cast(dtype)
        self.transition = kernel if isinstance(transition, Kernel) else kernel.todense()
        self.reward = _cast("reward", reward, dtype, mask, name)
        self.ends = None if ends is None else jnp.asarray(ends)
        if ends is not None and _concrete(reward) is None:
            over = jnp.asarray(ends)[:, None] & (self.reward != 0) & jnp.isfinite(self.reward)
            self.reward = jnp.where(over, jnp.nan, self.reward)
        self.mask = None if mask is None else jnp.asarray(mask, bool)
        with jax.enable_x64(True):
            self.discount = jnp.asarray(discount, jnp.float64)
        self.initial = (
            jnp.full(kernel.shape[0], 1 / kernel.shape[0], dtype)
            if initial is None
            else jnp.asarray(initial, dtype)
        )

    @property
    def num_states(self) -> int:
        return self.reward.shape[-2]

    @property
    def num_actions(self) -> int:
        return self.reward.shape[-1]

    @property
    def is_sparse(self) -> bool:
        """Whether the transitions are kept as a `Kernel` and not as one dense array."""
        return isinstance(self.transition, Kernel)

    def state_index(self, label: str) -> int:
        """The number of the state with this label; `InputError` where there is none."""
        return _find("states", self.states, label)

    def action_index(self, label: str) -> int:
        """The number of the action with this label; `InputError` where there is none."""
        return _find("actions", self.actions, label)


def check_plain(mdp: MDP) -> None:
    """Raises `InputError` where an MDP has a mask, or not one γ below 1, as the paper's have."""
    mask = _concrete(mdp.mask)
    if mdp.mask is not None and (mask is None or not mask.all()):
        raise InputError(
            "the paper's models offer all actions everywhere, but this MDP has a mask or rewards "
            "of -inf; give those actions a low reward instead."
        )
    if jnp.ndim(mdp.discount) or mdp.ends is not None:
        raise InputError(
            "the paper's models have one discount below 1, but this MDP has discounts of shape "
            f"{jnp.shape(mdp.discount)} or 1; use solve, which takes them."
        )


class _Names:
    """States and actions as messages name them: by number, and label where there is one."""

    def __init__(self, states: tuple[str, ...] | None, actions: tuple[str, ...] | None):
        self.states, self.actions = states, actions

    def pair(self, at: tuple[int, ...]) -> str:
        return (
            f"(state, action) = ({self._of(self.states, at[0])}, {self._of(self.actions, at[1])})"
        )

    def state(self, at: int) -> str:
        return f"state {self._of(self.states, at)}"

    @staticmethod
    def _of(labels: tuple[str, ...] | None, at: int) -> str:
        return f"{at}" if labels is None else f"{at} {labels[at]!r}"


def _labels(name: str, labels: Sequence[str] | None, count: int) -> tuple[str, ...] | None:
    if labels is None:
        return None
    if isinstance(labels, str) or not isinstance(labels, Sequence | np.ndarray):
        raise InputError(f"{name} must be a list of labels, but is {labels!r}; give one for each.")
    found = tuple(map(str, labels))
    if len(found) != count or len(set(found)) != count:
        raise InputError(
            f"{name} needs {count} different labels, but has {len(found)}, of which "
            f"{len(set(found))} differ; give one label for each."
        )
    return found


def _find(name: str, labels: tuple[str, ...] | None, label: str) -> int:
    if labels is None or label not in labels:
        known = "none" if labels is None else ", ".join(labels[:10])
        raise InputError(f"no label {label!r} among the {name}; known: {known}.")
    return labels.index(label)


def _precision(kernel: Kernel, reward: Any) -> Any:
    """The precision to keep: the widest given, at least float32, integers counting as float64."""
    given = [x.dtype for x in (*kernel.parts, reward)]
    wide = any(not jnp.issubdtype(d, jnp.floating) or d.itemsize > 4 for d in given)
    return jax.dtypes.canonicalize_dtype(np.float64 if wide else np.float32)


def _check_shapes(kernel: Kernel, reward: Any, discount: Any, initial: Any, mask: Any) -> None:
    kernel.check()
    shape, rows = kernel.shape, kernel.layout
    if tuple(reward.shape) not in (shape[:2], rows):
        raise InputError(
            f"reward has shape {tuple(reward.shape)} where transition asks for [S, A] = "
            f"{shape[:2]}; give one reward for each state and action, or one for each "
            f"transition in shape {rows}."
        )
    if tuple(discount.shape) not in ((), shape[:1], shape[:2], rows):
        raise InputError(
            f"discount must be one number, but has shape {tuple(discount.shape)}; give one, or "
            f"one a state {shape[:1]}, a pair {shape[:2]} or a transition {rows}, and vmap over "
            "MDPs for several discounts."
        )
    if initial is not None and tuple(initial.shape) != shape[:1]:
        raise InputError(
            f"initial has shape {tuple(initial.shape)} where transition asks for [S] = "
            f"{shape[:1]}; give one probability for each state."
        )
    if mask is not None and tuple(mask.shape) != shape[:2]:
        raise InputError(
            f"mask has shape {tuple(mask.shape)} where transition asks for [S, A] = "
            f"{shape[:2]}; give True or False for each state and action."
        )


def _check_rows(
    kernel: Kernel, reward: Any, mask: Any, name: _Names
) -> tuple[Kernel, Array | np.ndarray | None]:
    """The kernel, with a valid row where an action is masked, and the mask with rewards of −∞."""
    rewards = _concrete(reward)
    if rewards is not None:
        bad = np.isnan(rewards) | (rewards == np.inf)
        if bad.any():
            at = _first(bad)
            raise InputError(f"reward{at} is {rewards[at]}; every reward must be finite.")
        if rewards.ndim == 2 and (rewards == -np.inf).any():
            given = None if mask is None else _concrete(mask)
            forbidden = rewards == -np.inf
            mask = ~forbidden if given is None else given.astype(bool) & ~forbidden
    known = None if mask is None else _concrete(mask)
    if known is not None:
        unclear = (known != 0) & (known != 1)
        if unclear.any():
            at = _first(unclear)
            raise InputError(f"mask{at} is {known[at]}; give True or False for each pair.")
        known = known.astype(bool)
        empty = ~known.any(axis=-1)
        if empty.any():
            raise InputError(
                f"{name.state(int(empty.argmax()))} has no action left: the mask (or a reward of "
                "-inf) forbids all of them; leave one at least."
            )
    if known is not None and not any(isinstance(x, jax.core.Tracer) for x in kernel.parts):
        kernel = kernel.repaired(known)
    for part in kernel.parts:
        rows = _concrete(part)
        if rows is not None:
            _check_distributions("transition", rows, name)
    return kernel, mask


def _reduced(kernel: Kernel, reward: Any, mask: Any, name: _Names) -> tuple[Any, Any]:
    """r(s, a): the expectation of r(s, a, s'), in float64; −∞ on a possible transition masks."""
    if len(reward.shape) == 2:
        return reward, mask
    (weights,) = kernel.parts
    given = reward.dtype
    with jax.enable_x64(True):
        possible = jnp.asarray(weights) > 0
        finite = jnp.where(possible, jnp.asarray(reward, jnp.float64), 0)
        reduced = (jnp.asarray(weights, jnp.float64) * finite).sum(axis=-1)
    known = _concrete(reduced)
    if known is None:
        return reduced.astype(jnp.result_type(given, jnp.float32)), mask
    forbidden = known == -np.inf
    if forbidden.any():
        mask = ~forbidden if mask is None else np.asarray(mask, bool) & ~forbidden
        if not mask.any(axis=-1).all():
            raise InputError(
                f"{name.state(int((~mask.any(axis=-1)).argmax()))} has no action left: a reward "
                "of -inf forbids all of them; leave one at least."
            )
    floating = jnp.issubdtype(given, jnp.floating)
    return known.astype(given if floating and given.itemsize >= 4 else np.float64), mask


def _cast(name: str, value: Any, dtype: Any, mask: Any, names: _Names) -> Array:
    """`value` in the precision that is kept, where it must still be finite."""
    with np.errstate(over="ignore"):
        array = jnp.asarray(value, dtype)
    known, given = _concrete(array), _concrete(value)
    if mask is not None:
        array = jnp.where(jnp.asarray(mask, bool), array, -jnp.inf)
    if known is not None and given is not None:
        lost = ~np.isfinite(known) & np.isfinite(given)
        if lost.any():
            at = _first(lost)
            raise InputError(
                f"{name}{at} is {given[at]}, which is not finite in {np.dtype(dtype).name}; scale "
                'the rewards, or call jax.config.update("jax_enable_x64", True) first.'
            )
    return array


def _check_discount(
    kernel: Kernel, reward: Any, discount: Any, mask: Any, given: Array | None, name: _Names
) -> np.ndarray | Array | None:
    """The states that end an undiscounted problem; None where every step is discounted."""
    gamma = _concrete(discount)
    if gamma is None:
        return given
    gamma = gamma.astype(np.float64)
    outside = ~((gamma >= 0) & (gamma <= 1))
    if outside.any():
        at = _first(outside) if gamma.ndim else ()
        raise InputError(
            f"discount{at or ''} must lie in [0, 1), but is {gamma[at]}; choose one below 1."
        )
    if not (gamma == 1).any():
        return None
    if any(isinstance(x, jax.core.Tracer) for x in (*jax.tree.leaves(kernel), mask)):
        if given is not None:
            return given
        raise InputError(
            "discount is 1 and the transitions are traced, so nobody can see whether every policy "
            "ends; build the MDP outside jit, or give the end states as ends=."
        )
    return _ends(kernel, _concrete(reward), gamma, mask, name)


def _ends(
    kernel: Kernel, reward: np.ndarray | None, gamma: np.ndarray, mask: Any, name: _Names
) -> np.ndarray:
    """States that keep themselves without reward, as far as rewards are known.

    Raises `InputError` with a pair that some policy may take for ever: the greatest set of states
    in which an action without a discount leads to the set only.
    """
    index, probability = kernel.lists()
    states, actions, _ = probability.shape
    pairs = gamma[:, None] if gamma.ndim == 1 else gamma
    each = kernel.unlisted(gamma, index) if gamma.ndim == 3 else np.atleast_2d(pairs)[..., None]
    allowed = np.ones((states, actions), bool) if mask is None else np.asarray(mask, bool)
    # a pair that discounts a possible transition ends by that
    kept = ((probability == 0) | (each == 1)).all(axis=-1) & allowed
    stays = ((probability == 0) | (index == np.arange(states)[:, None, None])).all(axis=-1)
    free = True if reward is None else reward == 0
    ends = ((stays & kept & free) | ~allowed).all(axis=-1)
    trapped = ~ends
    while True:
        inside = ((probability == 0) | trapped[index]).all(axis=-1) & kept & trapped[:, None]
        if (inside.any(axis=-1) == trapped).all():
            break
        trapped = inside.any(axis=-1)
    if trapped.any():
        state = int(trapped.argmax())
        raise InputError(
            "discount is 1, but a policy that takes "
            f"{name.pair((state, int(inside[state].argmax())))} never ends; let every action lead "
            "to a state that keeps itself with reward 0, choose a discount below 1, or a finite "
            "horizon."
        )
    return ends


def _check_initial(initial: Any) -> None:
    start = _concrete(initial)
    if start is not None:
        _check_distributions("initial", start, _Names(None, None))


def _check_distributions(name: str, rows: np.ndarray, names: _Names) -> None:
    """Every last-axis row is a distribution, up to the rounding of its own precision."""
    bad = ~(np.isfinite(rows) & (rows >= 0))
    if bad.any():
        at = _first(bad)
        raise InputError(
            f"{name}{at} is {rows[at]}; every probability must be finite and not negative."
        )
    sums = rows.sum(axis=-1, dtype=np.float64)
    tolerance = 1e-9 if rows.dtype.itemsize >= 8 or rows.dtype.kind in "iub" else 1e-5
    wrong = np.atleast_1d(np.abs(sums - 1) > tolerance)
    if wrong.any():
        at = _first(wrong)
        row = "initial" if rows.ndim == 1 else f"the row of {name} for {names.pair(at)}"
        raise InputError(
            f"{row} sums to {np.atleast_1d(sums)[at]!s} and not to 1; "
            "divide it by its sum or add what is missing."
        )


def _concrete(value: Any) -> np.ndarray | None:
    """The values of an array that is none or not traced."""
    return None if value is None or isinstance(value, jax.core.Tracer) else np.asarray(value)


def _first(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(mask.argmax()), mask.shape))
