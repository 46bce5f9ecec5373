"""Fixed points of the Bellman operators.

The loops work on state values v[S], A times fewer numbers than Q: v = value(q) with
q = r + γPv, where value is log-sum-exp, max or the mean under a policy. Where v changes by less
than δ under the operator, Q = BQ holds up to γδ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from omd.tabular.elimination import UNROLLED, eliminate
from omd.tabular.mdp import Transitions
from omd.tabular.operators import (
    Scalar,
    expected_next,
    greedy_policy,
    hard_value,
    lookahead,
    soft_value,
    softmax_policy,
    transition_under,
)
from omd.tabular.successors import Successors

MAX_SWEEPS = 50
"""Evaluation sweeps that modified policy iteration makes at most for each improvement."""

SETTLED = 1e-3
"""Share of states whose best action may change before a policy is evaluated to the end."""

MAX_UNROLLED = 32
"""Up to this many successors, a sweep is written out term by term."""


class Problem(NamedTuple):
    """An operator B: soft at a temperature α > 0, hard where it is None, or that of a policy."""

    transition: Transitions
    reward: Float[Array, "S A"]
    discount: Scalar
    temperature: Scalar | None = None
    policy: Float[Array, "S A"] | None = None

    def value(self, q: Float[Array, "S A"]) -> Float[Array, " S"]:
        if self.policy is not None:
            return (self.policy * q).sum(axis=-1)
        return hard_value(q) if self.temperature is None else soft_value(q, self.temperature)

    def derivative(self, q: Float[Array, "S A"]) -> Float[Array, "S A"]:
        """The policy π = ∂value/∂q."""
        if self.policy is not None:
            return self.policy
        return greedy_policy(q) if self.temperature is None else softmax_policy(q, self.temperature)

    def lookahead(self, v: Float[Array, " S"]) -> Float[Array, "S A"]:
        return lookahead(self.transition, self.reward, self.discount, v)

    def bellman(self, q: Float[Array, "S A"]) -> Float[Array, "S A"]:
        return self.lookahead(self.value(q))


class State(NamedTuple):
    """v, its action values q = r + γPv, and value(q)."""

    v: Float[Array, " S"]
    q: Float[Array, "S A"]
    image: Float[Array, " S"]


Step = Callable[[Problem, State, Scalar], Float[Array, " S"]]
"""(problem, state, tolerance) -> the next v."""


def iterate(
    problem: Problem, step: Step, v: Float[Array, " S"], tolerance: Scalar, max_iterations: Scalar
) -> tuple[Float[Array, " S"], Float[Array, "S A"], Int[Array, ""]]:
    """(v, q = r + γPv, steps): until γ‖v − value(q)‖∞ ≤ tolerance before a step, or
    max_iterations of them."""

    def unfinished(carry):
        _, _, gap, count = carry
        return (gap > tolerance) & (count < max_iterations)

    # q is carried, not made and reduced in one go: XLA would fuse the two and run ten times slower
    def advance(carry):
        v, q, _, count = carry
        state = State(v, q, problem.value(q))
        gap = problem.discount * jnp.abs(state.image - v).max()
        v = step(problem, state, tolerance)
        return v, sweep(v), gap, count + 1

    def sweep(v):
        return _sweep(problem.transition, problem.reward, problem.discount, v)

    start = (v, sweep(v), jnp.asarray(jnp.inf, v.dtype), jnp.int32(0))
    v, q, _, count = jax.lax.while_loop(unfinished, advance, start)
    return v, q, count


def value_iteration(problem: Problem, state: State, tolerance: Scalar) -> Float[Array, " S"]:
    """v ← value(r + γPv); contracts by γ."""
    return state.image


def shifted_value_iteration(
    problem: Problem, state: State, tolerance: Scalar
) -> Float[Array, " S"]:
    """Value iteration plus the constant that MacQueen's bounds leave open.

    If all increments of a sweep were equal to c, the limit would be value(q) + γ c / (1 − γ). That
    much is added, with c half-way between the smallest and the largest increment, so that errors
    shrink by what the chain mixes and not only by γ.
    """
    gap = state.image - state.v
    return state.image + _shift(problem.discount, gap.min(), gap.max())


def newton(problem: Problem, state: State, tolerance: Scalar) -> Float[Array, " S"]:
    """v ← v + (I − γP^π)⁻¹ (value(q) − v) by a dense factorisation [S, S].

    Policy iteration for the hard operator and soft policy iteration for the soft one: π is the
    derivative of value at q, so this is Newton's method, and it converges quadratically.
    """
    policy = problem.derivative(state.q)
    gap = state.image - state.v
    return state.v + solve_dense(problem.transition, policy, problem.discount, gap)


def modified_policy_iteration(
    problem: Problem, v: Float[Array, " S"], tolerance: Scalar, max_iterations: Scalar
) -> tuple[Float[Array, " S"], Float[Array, "S A"], Int[Array, ""]]:
    """(v, q = r + γPv, improvements): some sweeps of v = r^π + γP^π v for each improvement of π,
    then a shift.

    Ends as `iterate` does. The sweeps of an improvement go on until the spread of their
    increments has shrunk to a tenth or, once the best action changes in few states, to what the
    tolerance asks; then comes the shift of `shifted_value_iteration`. All products are
    matrix-free. Where a sweep under π costs as much as an improvement, there are only these.
    """
    if isinstance(problem.transition, Successors) and problem.temperature is not None:
        return iterate(problem, shifted_value_iteration, v, tolerance, max_iterations)

    def unfinished(carry):
        v, q, _, count = carry
        gap = problem.discount * jnp.abs(problem.value(q) - v).max()
        return (gap > tolerance) & (count < max_iterations)

    def advance(carry):
        v, q, best, count = carry
        now = q.argmax(axis=-1)
        settled = (now != best).mean() <= SETTLED
        v = _evaluate(problem, State(v, q, problem.value(q)), settled, tolerance)
        return v, sweep(v), now, count + 1

    def sweep(v):
        return _sweep(problem.transition, problem.reward, problem.discount, v)

    start = (v, sweep(v), jnp.full(v.shape, -1), jnp.int32(0))
    v, q, _, count = jax.lax.while_loop(unfinished, advance, start)
    return v, q, count


def _evaluate(
    problem: Problem, state: State, settled: Bool[Array, ""], tolerance: Scalar
) -> Float[Array, " S"]:
    """About the value of the policy that is best at state.q."""
    backup = _tangent(problem, state)
    gap = state.image - state.v
    finest = tolerance / 4
    aim = jnp.where(settled, finest, jnp.maximum(0.1 * (gap.max() - gap.min()), finest))

    # increments are taken from what is carried, lest XLA make every sweep three times
    def unfinished(carry):
        v, image, count = carry
        gap = image - v
        return (gap.max() - gap.min() > aim) & (count < MAX_SWEEPS)

    def advance(carry):
        _, image, count = carry
        return image, backup(image), count + 1

    v, image, _ = jax.lax.while_loop(unfinished, advance, (state.v, state.image, jnp.int32(0)))
    gap = image - v
    return image + _shift(problem.discount, gap.min(), gap.max())


def solve_dense(
    transition: Transitions,
    policy: Float[Array, "S A"],
    discount: Scalar,
    right: Float[Array, " S"],
) -> Float[Array, " S"]:
    """(I − γP^π)⁻¹ right, by LU, or by elimination written out for a few states."""
    chain = transition_under(transition, policy)
    matrix = jnp.eye(right.size, dtype=right.dtype) - discount * chain
    return eliminate(matrix, right) if right.size <= UNROLLED else jnp.linalg.solve(matrix, right)


def _shift(discount: Scalar, low: Scalar, high: Scalar) -> Scalar:
    return discount / (1 - discount) * (low + high) / 2


def _tangent(problem: Problem, state: State) -> Callable[[Float[Array, " S"]], Float[Array, " S"]]:
    """The affine operator that touches v -> value(r + γPv) at the present v."""
    if problem.temperature is None:
        best = state.q.argmax(axis=-1)[:, None]
        chosen = jax.tree.map(
            lambda x: jnp.take_along_axis(x, best[..., None], axis=1), problem.transition
        )
        reward = jnp.take_along_axis(problem.reward, best, axis=1)
        return lambda v: _sweep(chosen, reward, problem.discount, v)[:, 0]
    policy = problem.derivative(state.q)
    chain = transition_under(problem.transition, policy)
    # r^π with the entropy of π in it, from γP^π v = Σ_a π (q − r)
    reward = state.image - (policy * (state.q - problem.reward)).sum(axis=-1)
    return lambda v: reward + problem.discount * (chain @ v)


def _sweep(
    transition: Transitions, reward: Float[Array, "S A"], discount: Scalar, v: Float[Array, " S"]
) -> Float[Array, "S A"]:
    """`lookahead`, for loops that nobody differentiates and that carry the result.

    XLA reads a sum of K gathers in one pass, in half the time of one gather [S, A, K] that it has
    to write out and read again.
    """
    if not isinstance(transition, Successors) or transition.index.shape[-1] > MAX_UNROLLED:
        return reward + discount * expected_next(transition, v)
    mean = jnp.zeros_like(reward)
    for k in range(transition.index.shape[-1]):
        mean += transition.probability[..., k] * v.at[transition.index[..., k]].get(
            mode="promise_in_bounds", wrap_negative_indices=False
        )
    return reward + discount * mean
