"""Section 5 and appendix G as functions: proposition 1, lemma 1, both parts of theorem 2.

Each returns both sides, so that a test or a plot can look at the gap. The paper states them for
the hard operator, the limit (9), as `temperature=None` does here; at a temperature α > 0 they
hold for the soft one. All are pure functions, for use under `jit` and `vmap`.

The paper takes r(s, a) ∈ [0, r_max] and uses 0 ≤ Q ≤ r_max / (1 − γ). Only the width of that
interval enters, since adding a constant to all rewards moves every Q by a constant. So rewards
lie in [low, high] here, by default the smallest interval that holds them and 0, and high − low
stands for r_max; where no reward is negative this is the paper's number. The soft operator
pays an entropy of up to log A besides, which adds α log A to high.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from omd.errors import InputError
from omd.tabular.kernels import Successors
from omd.tabular.mdp import MDP, check_plain
from omd.tabular.operators import Scalar, bellman, hard_value, soft_value
from omd.tabular.solvers import solve


class Bound(NamedTuple):
    """left ≤ right, as far as `holds_if` is true."""

    left: Float[Array, ""]
    right: Float[Array, ""]
    holds_if: Bool[Array, ""]
    """Whether the hypothesis of the statement is met; without it nothing is promised."""

    @property
    def gap(self) -> Float[Array, "*lanes"]:
        """right − left: how loose the bound is."""
        return self.right - self.left


class Equivalence(NamedTuple):
    """Both sides of eq. (8), and what proposition 1 concludes from them."""

    left: Float[Array, "S A"]
    """B^θ Q* of the model."""
    right: Float[Array, "S A"]
    """BQ* = Q* of the true MDP."""
    error: Float[Array, ""]
    """‖B^θ Q* − Q*‖∞: zero, up to rounding, for models of the equivalence class Θ_Q*."""


class ModelError(NamedTuple):
    """ε_p = max_{s,a} ‖p(·|s, a) − p̂(·|s, a)‖₁ and ε_r = max_{s,a} |r(s, a) − r̂(s, a)|."""

    transition: Float[Array, ""]
    reward: Float[Array, ""]


def model_error(mdp: MDP, model: MDP) -> ModelError:
    """ε_p and ε_r of lemma 1. Sparse transitions that don't share one index become dense."""
    _check_shapes(mdp, model)
    p: Any = mdp.transition
    p_hat: Any = model.transition
    if isinstance(p, Successors) and isinstance(p_hat, Successors) and p.index is p_hat.index:
        difference = p.probability - p_hat.probability
    else:
        difference = _dense(p) - _dense(p_hat)
    return ModelError(
        jnp.abs(difference).sum(axis=-1).max(), jnp.abs(mdp.reward - model.reward).max()
    )


def proposition_1(
    mdp: MDP,
    model: MDP,
    *,
    q_star: Float[ArrayLike, "S A"] | None = None,
    temperature: Scalar | None = None,
) -> Equivalence:
    """Both sides of eq. (8): a model with error 0 has (Q*, θ) as a solution of (2) and (6).

    For such a model Q* is the fixed point of B^θ, so it is found by planning in the model.
    """
    _check_shapes(mdp, model)
    q_star = _optimal(mdp, temperature) if q_star is None else jnp.asarray(q_star)
    left, right = bellman(model, q_star, temperature), bellman(mdp, q_star, temperature)
    return Equivalence(left, right, jnp.abs(left - right).max())


def lemma_1(
    mdp: MDP,
    model: MDP,
    q: Float[ArrayLike, "S A"],
    *,
    reward_range: tuple[Scalar, Scalar] | None = None,
    temperature: Scalar | None = None,
) -> Bound:
    """‖BQ − B̂Q‖∞ ≤ ε_r + γ ε_p r_max / (2 (1 − γ)), eq. (15).

    The proof needs max_a Q(s, a) in [low, high] / (1 − γ), which the statement leaves unsaid:
    `holds_if` says whether that is so, whether the range covers the rewards, and whether both
    MDPs have one discount.
    """
    q = jnp.asarray(q)
    low, high, covered = _range(mdp, model, reward_range, temperature)
    value = hard_value(q) if temperature is None else soft_value(q, temperature)
    scaled = (1 - mdp.discount) * value
    slack = 64 * jnp.finfo(q.dtype).eps * (jnp.abs(low) + jnp.abs(high))
    inside = ((scaled >= low - slack) & (scaled <= high + slack)).all()
    left = _operator_error(mdp, model, q, temperature)
    return Bound(left, _lemma_right(mdp, model, high - low), inside & covered)


def theorem_2_mle(
    mdp: MDP,
    model: MDP,
    *,
    q_star: Float[ArrayLike, "S A"] | None = None,
    q_hat: Float[ArrayLike, "S A"] | None = None,
    reward_range: tuple[Scalar, Scalar] | None = None,
    temperature: Scalar | None = None,
) -> Bound:
    """‖Q* − Q̂‖∞ ≤ ε_r / (1 − γ) + γ ε_p r_max / (2 (1 − γ)²), first part of theorem 2.

    `q_star` and `q_hat` are the fixed points of the MDP and the model, solved for where they are
    left out. Holds whatever the rewards of the model are. (Appendix G applies lemma 1 at Q̂, which
    asks for Q̂ in the range; applied at Q*, with B̂ as the contraction, it needs no such thing.)
    """
    low, high, covered = _range(mdp, model, reward_range, temperature)
    q_star, q_hat = _fixed_points(mdp, model, q_star, q_hat, temperature)
    right = _lemma_right(mdp, model, high - low) / (1 - mdp.discount)
    return Bound(jnp.abs(q_star - q_hat).max(), right, covered)


def theorem_2_omd(
    mdp: MDP,
    model: MDP,
    *,
    q_star: Float[ArrayLike, "S A"] | None = None,
    q_hat: Float[ArrayLike, "S A"] | None = None,
    temperature: Scalar | None = None,
) -> Bound:
    """‖Q* − Q̂‖∞ ≤ ‖BQ̂ − B^θ Q̂‖∞ / (1 − γ), second part of theorem 2.

    `q_star` and `q_hat` are the fixed points of the MDP and the model, solved for where they are
    left out. It has no hypothesis besides.
    """
    q_star, q_hat = _fixed_points(mdp, model, q_star, q_hat, temperature)
    epsilon = _operator_error(mdp, model, q_hat, temperature)
    left = jnp.abs(q_star - q_hat).max()
    return Bound(left, epsilon / (1 - mdp.discount), jnp.asarray(True))


def _lemma_right(mdp: MDP, model: MDP, width: Scalar) -> Float[Array, ""]:
    error = model_error(mdp, model)
    return error.reward + mdp.discount * error.transition * width / (2 * (1 - mdp.discount))


def _operator_error(
    mdp: MDP, model: MDP, q: Float[ArrayLike, "S A"], temperature: Scalar | None
) -> Float[Array, ""]:
    return jnp.abs(bellman(mdp, q, temperature) - bellman(model, q, temperature)).max()


def _fixed_points(
    mdp: MDP,
    model: MDP,
    q_star: Float[ArrayLike, "S A"] | None,
    q_hat: Float[ArrayLike, "S A"] | None,
    temperature: Scalar | None,
) -> tuple[Float[Array, "S A"], Float[Array, "S A"]]:
    _check_shapes(mdp, model)
    q_star = _optimal(mdp, temperature) if q_star is None else q_star
    q_hat = _optimal(model, temperature) if q_hat is None else q_hat
    return jnp.asarray(q_star), jnp.asarray(q_hat)


def _optimal(mdp: MDP, temperature: Scalar | None) -> Float[Array, "S A"]:
    if temperature is None:
        return solve(mdp, operator="hard").q
    return solve(mdp, temperature).q


def _range(
    mdp: MDP,
    model: MDP,
    given: tuple[Scalar, Scalar] | None,
    temperature: Scalar | None,
) -> tuple[Scalar, Scalar, Bool[Array, ""]]:
    """low, high with the entropy's share, and whether they and the discounts are as they must."""
    smallest = jnp.minimum(mdp.reward.min(), 0), jnp.maximum(mdp.reward.max(), 0)
    low, high = smallest if given is None else given
    covered = (mdp.reward >= low).all() & (mdp.reward <= high).all()
    if temperature is not None:
        high = high + temperature * jnp.log(mdp.num_actions)
    return low, high, covered & (mdp.discount == model.discount)


def _dense(transition: Float[Array, "S A S"] | Successors) -> Float[Array, "S A S"]:
    return transition.todense() if isinstance(transition, Successors) else transition


def _check_shapes(mdp: MDP, model: MDP) -> None:
    if mdp.reward.shape != model.reward.shape:
        raise InputError(
            f"the model has {model.reward.shape} states and actions and the true MDP "
            f"{mdp.reward.shape}; compare models of one MDP."
        )
    for one in (mdp, model):
        check_plain(one)
