"""Bellman operators, policies and returns of a tabular model, eq. (3) and (9).

Everything here is a pure function of arrays, without checks, for use inside `jit`, `vmap`,
`scan` and `grad`. `transition` is P[S, A, S'] or a `Kernel`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from omd.tabular.kernels import as_kernel
from omd.tabular.mdp import MDP, Transitions

Scalar = Float[Array, ""] | Float[np.ndarray, ""] | float | int


def soft_value(q: Float[ArrayLike, "... A"], temperature: Scalar) -> Float[Array, " ..."]:
    """α log Σ_a exp(q/α) over the last axis: the state value of eq. (3) at temperature α > 0."""
    # around the maximum: q/α is large for small α, and its rounding would reach ∂/∂α
    q = jnp.asarray(q)
    top = jax.lax.stop_gradient(q.max(axis=-1, keepdims=True))
    excess = jax.nn.logsumexp((q - top) / temperature, axis=-1)
    return top[..., 0] + temperature * excess


def hard_value(q: Float[ArrayLike, "... A"]) -> Float[Array, " ..."]:
    """max_a q over the last axis, the limit of eq. (9); tied actions share the gradient equally."""
    return jnp.asarray(q).max(axis=-1)


def softmax_policy(q: Float[ArrayLike, "... A"], temperature: Scalar) -> Float[Array, "... A"]:
    """π_Q(a|s) of eq. (3) at temperature α > 0; rows sum to one."""
    q = jnp.asarray(q)
    top = jax.lax.stop_gradient(q.max(axis=-1, keepdims=True))
    return jax.nn.softmax((q - top) / temperature, axis=-1)


def greedy_policy(q: Float[ArrayLike, "... A"]) -> Float[Array, "... A"]:
    """All probability on the first best action of every state."""
    q = jnp.asarray(q)
    return jax.nn.one_hot(best_action(q), q.shape[-1], dtype=q.dtype)


def best_action(q: Float[Array, "... A"]) -> Int[Array, " ..."]:
    """The first best action; 0 where an entry is NaN."""
    # argmax of float64 numbers can't be lowered where 64-bit numbers are off by default
    numbers = jnp.arange(q.shape[-1])
    first = jnp.where(q == q.max(axis=-1, keepdims=True), numbers, q.shape[-1]).min(axis=-1)
    return first % q.shape[-1]


def expected_next(transition: Transitions, v: Float[ArrayLike, " S"]) -> Float[Array, "S A"]:
    """Σ_s' p(s'|s, a) v(s')."""
    return as_kernel(transition).expected(v)


def lookahead(
    transition: Transitions,
    reward: Float[ArrayLike, "S A"],
    discount: Scalar | Float[ArrayLike, "S A"],
    v: Float[ArrayLike, " S"],
) -> Float[Array, "S A"]:
    """r(s, a) + γ Σ_s' p(s'|s, a) v(s'): the action values that state values v give.

    The discount is one number, or one a pair.
    """
    mean = expected_next(transition, v)
    return jnp.asarray(reward) + jnp.asarray(discount, mean.dtype) * mean


def soft_bellman(
    transition: Transitions,
    reward: Float[ArrayLike, "S A"],
    discount: Scalar,
    q: Float[ArrayLike, "S A"],
    temperature: Scalar,
) -> Float[Array, "S A"]:
    """B^θ Q of eq. (3) at temperature α > 0."""
    return lookahead(transition, reward, discount, soft_value(q, temperature))


def hard_bellman(
    transition: Transitions,
    reward: Float[ArrayLike, "S A"],
    discount: Scalar,
    q: Float[ArrayLike, "S A"],
) -> Float[Array, "S A"]:
    """B^θ Q in the limit α → 0 of eq. (9), the operator of appendix G."""
    return lookahead(transition, reward, discount, hard_value(q))


def bellman(
    mdp: MDP, q: Float[ArrayLike, "S A"], temperature: Scalar | None
) -> Float[Array, "S A"]:
    """BQ of an MDP: soft at a temperature α > 0, hard where the temperature is None.

    Actions that the MDP doesn't offer in a state have −∞ in the result, and their q is not read.
    """
    q = q if mdp.mask is None else jnp.where(mdp.mask, q, -jnp.inf)
    v = hard_value(q) if temperature is None else soft_value(q, temperature)
    v = v if mdp.ends is None else jnp.where(mdp.ends, 0, v)
    if mdp.discount.ndim == 3:
        kernel = as_kernel(mdp.transition)
        weights = kernel.scaled(jnp.asarray(mdp.discount, mdp.reward.dtype))
        return mdp.reward + weights.expected(v)
    discount = mdp.discount[:, None] if mdp.discount.ndim == 1 else mdp.discount
    return lookahead(mdp.transition, mdp.reward, discount, v)


def bellman_error(
    mdp: MDP, q: Float[ArrayLike, "S A"], temperature: Scalar | None
) -> Float[Array, ""]:
    """L(Q) = Σ_{s,a} (Q − BQ)² of eq. (6), with the operator of `bellman`."""
    image = bellman(mdp, q, temperature)
    if mdp.mask is not None:
        q, image = (jnp.where(mdp.mask, x, 0) for x in (q, image))
    return jnp.sum((q - image) ** 2)


def under_policy(
    transition: Transitions, reward: Float[ArrayLike, "S A"], policy: Float[ArrayLike, "S A"]
) -> tuple[Float[Array, "S S"], Float[Array, " S"]]:
    """The chain that a policy makes: P^π[S, S'] (dense) and r^π[S]."""
    return transition_under(transition, policy), (jnp.asarray(policy) * reward).sum(axis=-1)


def transition_under(
    transition: Transitions, policy: Float[ArrayLike, "S A"]
) -> Float[Array, "S S"]:
    """P^π(s'|s) = Σ_a π(a|s) p(s'|s, a) as a dense matrix."""
    return as_kernel(transition).chain(jnp.asarray(policy))
