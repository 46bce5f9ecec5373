"""Fixed points of the Bellman optimality operators: three step rules under one loop.

The loop works on state values v[S], A times fewer numbers than Q: v = value(q) with
q = r + γPv, where value is log-sum-exp or max. At its end Q = BQ holds up to γ‖v − value(q)‖∞.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from omd.tabular.bellman import (
    Scalar,
    expected_next,
    greedy_policy,
    hard_value,
    lookahead,
    soft_value,
    softmax_policy,
    transition_under,
)
from omd.tabular.mdp import Transitions
from omd.tabular.successors import Successors

SWEEPS = 50
"""Evaluation sweeps that modified policy iteration makes at most for each improvement."""


class Problem(NamedTuple):
    """The operator B^θ: soft at a temperature α > 0, hard where `temperature` is None."""

    transition: Transitions
    reward: Float[Array, "S A"]
    discount: Scalar
    temperature: Scalar | None

    def lookahead(self, v: Float[Array, " S"]) -> Float[Array, "S A"]:
        return lookahead(self.transition, self.reward, self.discount, v)

    def value(self, q: Float[Array, "S A"]) -> Float[Array, " S"]:
        return hard_value(q) if self.temperature is None else soft_value(q, self.temperature)

    def bellman(self, q: Float[Array, "S A"]) -> Float[Array, "S A"]:
        return self.lookahead(self.value(q))


class Chain(NamedTuple):
    """What a policy makes of an MDP: v = reward + γ P v. The transition keeps one action."""

    transition: Transitions
    reward: Float[Array, " S"]
    discount: Scalar

    def backup(self, v: Float[Array, " S"]) -> Float[Array, " S"]:
        return self.reward + self.discount * expected_next(self.transition, v)[:, 0]


class State(NamedTuple):
    """v, its action values q = r + γPv, and value(q)."""

    v: Float[Array, " S"]
    q: Float[Array, "S A"]
    image: Float[Array, " S"]


Step = Callable[[Problem, State, Scalar], Float[Array, " S"]]
"""(problem, state, tolerance) -> the next v."""


def iterate(
    problem: Problem, step: Step, v: Float[Array, " S"], tolerance: Scalar, max_iterations: Scalar
) -> tuple[Float[Array, "S A"], Int[Array, ""]]:
    """(q, steps taken): steps until γ‖v − value(q)‖∞ ≤ tolerance, at most max_iterations."""

    def at(v: Float[Array, " S"]) -> State:
        q = problem.lookahead(v)
        return State(v, q, problem.value(q))

    def unfinished(carry):
        state, count = carry
        gap = problem.discount * jnp.abs(state.image - state.v).max()
        return (gap > tolerance) & (count < max_iterations)

    def advance(carry):
        state, count = carry
        return at(step(problem, state, tolerance)), count + 1

    state, count = jax.lax.while_loop(unfinished, advance, (at(v), jnp.int32(0)))
    return state.q, count


def value_iteration(problem: Problem, state: State, tolerance: Scalar) -> Float[Array, " S"]:
    """v ← value(r + γPv); contracts by γ."""
    return state.image


def newton(problem: Problem, state: State, tolerance: Scalar) -> Float[Array, " S"]:
    """v ← v + (I − γP^π)⁻¹ (value(q) − v) by a dense factorisation [S, S].

    Policy iteration for the hard operator and soft policy iteration for the soft one: π is the
    derivative of value at q, so this is Newton's method, and it converges quadratically.
    """
    gap = state.image - state.v
    return state.v + solve_dense(
        problem.transition, _policy(problem, state.q), problem.discount, gap
    )


def modified_policy_iteration(
    problem: Problem, state: State, tolerance: Scalar
) -> Float[Array, " S"]:
    """v ← some sweeps of v = r^π + γ P^π v, then the constant that MacQueen's bounds leave open.

    Sweeps until the spread of their increments has shrunk to a tenth. All products are matrix-free.
    """
    gap = state.image - state.v
    chain = _chain(problem, state)
    aim = jnp.maximum(0.1 * _spread(gap), tolerance / 4)
    return sweep(chain, state.image, gap, aim, SWEEPS)[0]


def sweep(
    chain: Chain, v: Float[Array, " S"], gap: Float[Array, " S"], aim: Scalar, max_sweeps: Scalar
) -> tuple[Float[Array, " S"], Int[Array, ""]]:
    """(v, sweeps): backups of a chain until the spread max − min of their increments is ≤ aim.

    `gap` is the increment that led to v. If all increments were equal to c, the limit would be
    v + γ c / (1 − γ): that much is added at the end, with c half-way between min and max, which
    leaves a residual ‖v − Tv‖∞ ≤ γ (max − min) / 2.
    """

    def unfinished(carry):
        _, low, high, count = carry
        return (high - low > aim) & (count < max_sweeps)

    def advance(carry):
        v, _, _, count = carry
        image = chain.backup(v)
        gap = image - v
        return image, gap.min(), gap.max(), count + 1

    start = (v, gap.min(), gap.max(), jnp.int32(0))
    v, low, high, count = jax.lax.while_loop(unfinished, advance, start)
    return v + chain.discount / (1 - chain.discount) * (low + high) / 2, count


def solve_dense(
    transition: Transitions,
    policy: Float[Array, "S A"],
    discount: Scalar,
    right: Float[Array, " S"],
) -> Float[Array, " S"]:
    """(I − γP^π)⁻¹ right by LU."""
    matrix = jnp.eye(right.size, dtype=right.dtype) - discount * transition_under(
        transition, policy
    )
    return jnp.linalg.solve(matrix, right)


def policy_chain(
    transition: Transitions,
    reward: Float[Array, " S"],
    discount: Scalar,
    policy: Float[Array, "S A"],
) -> Chain:
    """The chain of a stochastic policy; its sparse form keeps all A·K successors of a state."""
    if isinstance(transition, Successors):
        states = transition.shape[0]
        weights = policy[..., None] * transition.probability
        return Chain(
            Successors(transition.index.reshape(states, 1, -1), weights.reshape(states, 1, -1)),
            reward,
            discount,
        )
    return Chain(transition_under(transition, policy)[:, None], reward, discount)


def _policy(problem: Problem, q: Float[Array, "S A"]) -> Float[Array, "S A"]:
    if problem.temperature is None:
        return greedy_policy(q)
    return softmax_policy(q, problem.temperature)


def _chain(problem: Problem, state: State) -> Chain:
    """The chain that the operator follows to first order at q, with value(q) = reward + γP^π v."""
    if problem.temperature is not None:
        policy = softmax_policy(state.q, problem.temperature)
        # r^π with the entropy bonus, from γP^π v = Σ_a π (q − r)
        reward = state.image - (policy * (state.q - problem.reward)).sum(axis=-1)
        return policy_chain(problem.transition, reward, problem.discount, policy)
    best = state.q.argmax(axis=-1)[:, None]
    chosen = jax.tree.map(
        lambda x: jnp.take_along_axis(x, best[..., None], axis=1), problem.transition
    )
    return Chain(chosen, jnp.take_along_axis(problem.reward, best, axis=1)[:, 0], problem.discount)


def _spread(x: Float[Array, " S"]) -> Float[Array, ""]:
    return x.max() - x.min()
