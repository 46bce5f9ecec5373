"""Bellman operators, policies and returns of a tabular model, eq. (3) and (9).

Everything here is a pure function of arrays, without checks, for use inside `jit`, `vmap`,
`scan` and `grad`. `transition` is P[S, A, S'] or a `Successors`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from omd.tabular.mdp import MDP, Transitions
from omd.tabular.successors import Successors

Scalar = Float[Array, ""] | float


def soft_value(q: Float[Array, "... A"], temperature: Scalar) -> Float[Array, " ..."]:
    """α log Σ_a exp(q/α) over the last axis: the state value of eq. (3) at temperature α > 0."""
    # around the maximum: q/α is large for small α, and its rounding would reach ∂/∂α
    top = jax.lax.stop_gradient(q.max(axis=-1, keepdims=True))
    excess = jax.nn.logsumexp((q - top) / temperature, axis=-1)
    return top[..., 0] + temperature * excess


def hard_value(q: Float[Array, "... A"]) -> Float[Array, " ..."]:
    """max_a q over the last axis, the limit of eq. (9); tied actions share the gradient equally."""
    return q.max(axis=-1)


def softmax_policy(q: Float[Array, "... A"], temperature: Scalar) -> Float[Array, "... A"]:
    """π_Q(a|s) of eq. (3) at temperature α > 0; rows sum to one."""
    top = jax.lax.stop_gradient(q.max(axis=-1, keepdims=True))
    return jax.nn.softmax((q - top) / temperature, axis=-1)


def greedy_policy(q: Float[Array, "... A"]) -> Float[Array, "... A"]:
    """All probability on the first best action of every state."""
    return jax.nn.one_hot(q.argmax(axis=-1), q.shape[-1], dtype=q.dtype)


def expected_next(transition: Transitions, v: Float[Array, " S"]) -> Float[Array, "S A"]:
    """Σ_s' p(s'|s, a) v(s')."""
    if isinstance(transition, Successors):
        return (transition.probability * jnp.asarray(v)[transition.index]).sum(axis=-1)
    return transition @ v


def lookahead(
    transition: Transitions, reward: Float[Array, "S A"], discount: Scalar, v: Float[Array, " S"]
) -> Float[Array, "S A"]:
    """r(s, a) + γ Σ_s' p(s'|s, a) v(s'): the action values that state values v give."""
    return reward + discount * expected_next(transition, v)


def soft_bellman(
    transition: Transitions,
    reward: Float[Array, "S A"],
    discount: Scalar,
    q: Float[Array, "S A"],
    temperature: Scalar,
) -> Float[Array, "S A"]:
    """B^θ Q of eq. (3) at temperature α > 0."""
    return lookahead(transition, reward, discount, soft_value(q, temperature))


def hard_bellman(
    transition: Transitions, reward: Float[Array, "S A"], discount: Scalar, q: Float[Array, "S A"]
) -> Float[Array, "S A"]:
    """B^θ Q in the limit α → 0 of eq. (9), the operator of appendix G."""
    return lookahead(transition, reward, discount, hard_value(q))


def bellman(mdp: MDP, q: Float[Array, "S A"], temperature: Scalar | None) -> Float[Array, "S A"]:
    """BQ of an MDP: soft at a temperature α > 0, hard where the temperature is None."""
    if temperature is None:
        return hard_bellman(mdp.transition, mdp.reward, mdp.discount, q)
    return soft_bellman(mdp.transition, mdp.reward, mdp.discount, q, temperature)


def bellman_error(mdp: MDP, q: Float[Array, "S A"], temperature: Scalar | None) -> Float[Array, ""]:
    """L(Q) = Σ_{s,a} (Q − BQ)² of eq. (6), with the operator of `bellman`."""
    return jnp.sum((q - bellman(mdp, q, temperature)) ** 2)


def under_policy(
    transition: Transitions, reward: Float[Array, "S A"], policy: Float[Array, "S A"]
) -> tuple[Float[Array, "S S"], Float[Array, " S"]]:
    """The chain that a policy makes: P^π[S, S'] (dense) and r^π[S]."""
    return transition_under(transition, policy), (policy * reward).sum(axis=-1)


def transition_under(transition: Transitions, policy: Float[Array, "S A"]) -> Float[Array, "S S"]:
    """P^π(s'|s) = Σ_a π(a|s) p(s'|s, a) as a dense matrix."""
    if isinstance(transition, Successors):
        states = transition.shape[0]
        weights = (policy[..., None] * transition.probability).reshape(states, -1)
        chain = jnp.zeros((states, states), weights.dtype)
        return chain.at[jnp.arange(states)[:, None], transition.index.reshape(states, -1)].add(
            weights
        )
    return jnp.einsum("sa,sat->st", policy, transition)
