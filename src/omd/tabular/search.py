"""Searches for the fixed points of the Bellman operators.

The loops work on state values v[S], A times fewer numbers than Q: v = value(q) with
q = r + γPv, where value is log-sum-exp, max or the mean under a policy. Where v changes by less
than δ under the operator, Q = BQ holds up to γδ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from omd.tabular.elimination import UNROLLED, eliminate
from omd.tabular.kernels import Kernel
from omd.tabular.linear import AT_ONCE, Chain, corrected
from omd.tabular.operators import (
    Scalar,
    best_action,
    greedy_policy,
    hard_value,
    soft_value,
    softmax_policy,
)

MAX_SWEEPS = 50
"""Evaluation sweeps that modified policy iteration makes at most for each improvement."""

SETTLED = 1e-3
"""Share of states whose best action may change before a policy is evaluated to the end."""

CHUNK = 64
"""Sweeps between two looks at what precision can be asked for."""

SLOW = 0.03
"""A chunk of sweeps that leaves more than this share of the gap asks for a Krylov step."""

IN_VAIN = 2
"""Evaluations that use all their sweeps, one after another, before a system that is cheap to
factorise isn't swept any longer."""

SMOOTHING = 2
"""Sweeps of value iteration after a Newton step: they move the policy on, for next to nothing."""


class Problem(NamedTuple):
    """An operator B: soft at a temperature α > 0, hard where it is None, or that of a policy."""

    kernel: Kernel
    reward: Float[Array, "S A"]
    discount: Float[Array, ""] | Float[Array, " S #A"]
    temperature: Scalar | None = None
    policy: Float[Array, "S A"] | None = None
    mask: Bool[Array, "S A"] | None = None
    """Actions that there are; their rewards must be finite, and so must the others'."""
    ends: Bool[Array, " S"] | None = None
    """States that pay no entropy."""

    @property
    def uniform(self) -> bool:
        """Whether one γ holds for all pairs, so that adding c to v adds γc to its image."""
        return jnp.ndim(self.discount) == 0

    def value(self, q: Float[Array, "S A"]) -> Float[Array, " S"]:
        if self.policy is not None:
            return (self.policy * q).sum(axis=-1)
        if self.temperature is None:
            return hard_value(self._offered(q))
        if self.mask is None:
            soft = soft_value(q, self.temperature)
        else:
            top, excess = self._excess(q)
            soft = top + self.temperature * jax.nn.logsumexp(excess, axis=-1)
        if self.ends is None:
            return soft
        return jnp.where(self.ends, hard_value(self._offered(q)), soft)

    def derivative(self, q: Float[Array, "S A"]) -> Float[Array, "S A"]:
        """The policy π = ∂value/∂q; of tied best actions the first."""
        if self.policy is not None:
            return jnp.asarray(self.policy)
        if self.temperature is None:
            return greedy_policy(self._offered(q))
        if self.mask is None:
            return softmax_policy(q, self.temperature)
        return jax.nn.softmax(self._excess(q)[1], axis=-1)

    def lookahead(self, v: Float[Array, " S"]) -> Float[Array, "S A"]:
        return self.reward + self.discount * self.kernel.expected(v)

    def swept(self, v: Float[Array, " S"]) -> Float[Array, "S A"]:
        """`lookahead`, for loops that nobody differentiates and that carry the result."""
        return self.reward + self.discount * self.kernel.swept(v)

    def bellman(self, q: Float[Array, "S A"]) -> Float[Array, "S A"]:
        return self.lookahead(self.value(q))

    def chain(self, q: Float[Array, "S A"]) -> Chain:
        """The discounted chain γP^π of the policy π that is best at q, without any matrix."""
        discount = self.discount if self.uniform else None
        if self.policy is not None or self.temperature is not None:
            return Chain(self.kernel.under(self.derivative(q) * self.discount), discount)
        best = best_action(self._offered(q))
        factor = jnp.broadcast_to(self.discount, q.shape)
        factor = jnp.take_along_axis(factor, best[:, None], axis=1)
        return Chain(self.kernel.chosen(best).under(factor), discount)

    def magnitude(self, v: Float[Array, " S"], q: Float[Array, "S A"]) -> Float[Array, " S"]:
        """What value(r + γPv) adds up, state by state: rounding is a few ulps of this."""
        policy = self.derivative(q)
        added = jnp.abs(self.reward) + self.discount * self.kernel.swept(jnp.abs(v))
        return (policy * added).sum(axis=-1) + jnp.abs(self.value(q))

    def rounding(self) -> float:
        """Relative precision that a sweep can be held to."""
        return (32 + self.kernel.terms / 8) * float(jnp.finfo(jnp.result_type(self.reward)).eps)

    def _excess(self, q: Float[Array, "S A"]) -> tuple[Float[Array, " S"], Float[Array, "S A"]]:
        """(the best action's q, what each action's is above it in temperatures)."""
        top = jax.lax.stop_gradient(self._offered(q).max(axis=-1))
        # masked after the division: the derivative of −∞ / α would be NaN
        assert self.temperature is not None
        return top, self._offered((q - top[:, None]) / self.temperature)

    def _offered(self, q: Float[Array, "S A"]) -> Float[Array, "S A"]:
        return q if self.mask is None else jnp.where(self.mask, q, -jnp.inf)


class State(NamedTuple):
    """v, its action values q = r + γPv, and value(q)."""

    v: Float[Array, " S"]
    q: Float[Array, "S A"]
    image: Float[Array, " S"]


Step = Callable[[Problem, State, Scalar], Float[Array, " S"]]
"""(problem, state, threshold) -> the next v."""


class Goal(NamedTuple):
    """Where a search may stop: |v − value(q)| ≤ absolute, or what rounding leaves."""

    absolute: Scalar
    """0 asks for all that the precision gives."""

    def thresholds(
        self, problem: Problem, v: Float[Array, " S"], q: Float[Array, "S A"]
    ) -> Float[Array, " S"]:
        """The gap that each state may have, by the scale of the values at hand."""
        eps = float(jnp.finfo(v.dtype).eps)

        def asked():
            # may lie close to rounding, where no iteration gets any further
            return jnp.maximum(self.absolute, 2 * eps * jnp.abs(v))

        # the magnitude costs a sweep
        return jax.lax.cond(
            self.absolute > 0, asked, lambda: problem.rounding() * problem.magnitude(v, q)
        )


def settle(
    problem: Problem,
    advance: Callable[..., tuple[Array, Array, Array]],
    v: Float[Array, " S"],
    goal: Goal,
    limit: Int[Array, ""] | int,
) -> tuple[Float[Array, " S"], Float[Array, "S A"], Int[Array, ""]]:
    """(v, q = r + γPv, iterations) with every state's gap within the goal, or at the limit.

    `advance(problem, v, q, thresholds, limit)` makes some iterations. The thresholds are taken
    afresh between its calls, from the values that were found.
    """

    def look(v, q):
        thresholds = goal.thresholds(problem, v, q)
        return thresholds, (jnp.abs(problem.value(q) - v) <= thresholds).all()

    def unfinished(carry):
        v, _, _, done, count = carry
        return ~done & (count < limit) & jnp.isfinite(v).all()

    def go_on(carry):
        v, q, thresholds, _, count = carry
        v, q, more = advance(problem, v, q, thresholds, limit - count)
        return v, q, *look(v, q), count + more

    q = problem.swept(v)
    start = (v, q, *look(v, q), jnp.int32(0))
    v, q, _, _, count = jax.lax.while_loop(unfinished, go_on, start)
    return v, q, count


def stepping(step: Step, chunk: int) -> Callable[..., tuple[Array, Array, Array]]:
    """The `advance` of `settle` that repeats one step, at most `chunk` times a call."""

    def advance(problem, v, q, thresholds, limit):
        finest = thresholds.max()

        def unfinished(carry):
            _, _, inside, count = carry
            return ~inside & (count < jnp.minimum(chunk, limit))

        # q is carried, not made and reduced in one go: see docs/performance.md
        def once(carry):
            v, q, _, count = carry
            state = State(v, q, problem.value(q))
            inside = (jnp.abs(state.image - v) <= thresholds).all()
            v = step(problem, state, finest)
            return v, problem.swept(v), inside, count + 1

        start = (v, q, jnp.asarray(False), jnp.int32(0))
        v, q, _, count = jax.lax.while_loop(unfinished, once, start)
        return v, q, count

    return advance


def value_iteration(problem: Problem, state: State, finest: Scalar) -> Float[Array, " S"]:
    """v ← value(r + γPv); contracts by γ."""
    return state.image


def shifted_value_iteration(problem: Problem, state: State, finest: Scalar) -> Float[Array, " S"]:
    """Value iteration plus the constant that MacQueen's bounds leave open.

    If all increments of a sweep were equal to c, the limit would be value(q) + γ c / (1 − γ). That
    much is added, with c half-way between the smallest and the largest increment, so that errors
    shrink by what the chain mixes and not only by γ.
    """
    gap = state.image - state.v
    return state.image + _shift(problem, gap.min(), gap.max())


def newton(problem: Problem, state: State, finest: Scalar) -> Float[Array, " S"]:
    """v ← v + (I − γP^π)⁻¹ (value(q) − v) by a dense factorisation [S, S].

    Policy iteration for the hard operator and soft policy iteration for the soft one: π is the
    derivative of value at q, so this is Newton's method, and it converges quadratically.
    """
    policy = problem.derivative(state.q)
    gap = state.image - state.v
    return state.v + solve_dense(problem.kernel, policy, problem.discount, gap)


def improving(problem, v, q, thresholds, limit, *, impatient=False):
    """The `advance` of modified policy iteration: one improvement of π and some sweeps of
    v = r^π + γP^π v, then a shift.

    The sweeps go on until the spread of their increments has shrunk to a tenth or, once the best
    action changes in few states, to what the thresholds ask; then comes the shift of
    `shifted_value_iteration`. All products are matrix-free. Where `impatient`, it ends early once
    the best actions stay but the sweeps don't bring their value about, or where a factorisation
    costs little, after `IN_VAIN` evaluations that used all their sweeps.
    """
    cheap = v.size <= AT_ONCE

    def unfinished(carry):
        v, q, _, stuck, count = carry
        outside = (jnp.abs(problem.value(q) - v) > thresholds).any()
        return outside & ~stuck[0] & (count < jnp.minimum(CHUNK, limit))

    def once(carry):
        v, q, best, (_, vain), count = carry
        now = best_action(q)
        settled = (now != best).mean() <= SETTLED
        image = problem.value(q)
        there, ended = _evaluate(problem, State(v, q, image), settled, thresholds.max())
        after = problem.swept(there)
        vain = jnp.where(ended, 0, vain + 1)
        stuck = jnp.asarray(False)
        if impatient:
            left = jnp.abs(problem.value(after) - there).max() > SLOW * jnp.abs(image - v).max()
            stuck = (now == best).all() & left | (cheap & (vain >= IN_VAIN))
        return there, after, now, (stuck, vain), count + 1

    start = (v, q, jnp.full(v.shape, -1), (jnp.asarray(False), jnp.int32(0)), jnp.int32(0))
    v, q, _, _, count = jax.lax.while_loop(unfinished, once, start)
    return v, q, count


def _evaluate(
    problem: Problem, state: State, settled: Bool[Array, ""], finest: Scalar
) -> tuple[Float[Array, " S"], Bool[Array, ""]]:
    """(about the value of the policy that is best at state.q, whether the sweeps sufficed)."""
    backup = _tangent(problem, state)
    gap = state.image - state.v
    aim = jnp.where(settled, finest / 4, jnp.maximum(0.1 * (gap.max() - gap.min()), finest / 4))

    # increments are taken from what is carried, lest XLA repeat the sweep
    def unfinished(carry):
        v, image, count = carry
        gap = image - v
        return (gap.max() - gap.min() > aim) & (count < MAX_SWEEPS)

    def advance(carry):
        _, image, count = carry
        return image, backup(image), count + 1

    v, image, _ = jax.lax.while_loop(unfinished, advance, (state.v, state.image, jnp.int32(0)))
    gap = image - v
    low, high = gap.min(), gap.max()
    return image + _shift(problem, low, high), high - low <= aim


def modified(problem, v, q, thresholds, limit, *, impatient=False):
    """`improving`; where a sweep under π costs as much as an improvement, improvements only."""
    soft_rows = problem.temperature is not None and problem.kernel.terms < problem.kernel.shape[-1]
    if soft_rows or problem.policy is not None:
        return stepping(shifted_value_iteration, CHUNK)(problem, v, q, thresholds, limit)
    return improving(problem, v, q, thresholds, limit, impatient=impatient)


def inexact(problem, v, q, thresholds, limit):
    """The `advance` of inexact policy iteration: `modified`, and where its sweeps are slow, Newton
    steps by `corrected`, two and as many more as halve the gap.

    Slow is what leaves more than `SLOW` of the gap after a chunk; sweeps contract by γ only
    where the chain mixes slowly, and at γ = 0.9999 would go on for 10⁵ times.
    """
    before = jnp.abs(problem.value(q) - v).max()
    v, q, count = modified(problem, v, q, thresholds, limit, impatient=True)
    slow = jnp.abs(problem.value(q) - v).max() > SLOW * before

    def going(carry):
        v, q, last, leaps = carry
        gap = jnp.abs(problem.value(q) - v)
        # the first one may show how far the policy was from the best
        worthwhile = (leaps < 2) | (gap.max() <= last / 2)
        return slow & (gap > thresholds).any() & worthwhile & (leaps < limit - count)

    def leap(carry):
        v, q, _, leaps = carry
        gap = problem.value(q) - v
        step = corrected(problem.chain(q), gap)
        v = v + jnp.where(jnp.isfinite(step).all(), step, 0)
        q = problem.swept(v)
        for _ in range(SMOOTHING):
            v = problem.value(q)
            q = problem.swept(v)
        return v, q, jnp.abs(gap).max(), leaps + 1

    start = (v, q, jnp.asarray(jnp.inf, v.dtype), jnp.int32(0))
    v, q, _, leaps = jax.lax.while_loop(going, leap, start)
    return v, q, count + leaps


def solve_dense(
    kernel: Kernel,
    policy: Float[Array, "S A"],
    discount: ArrayLike,
    right: Float[Array, " S"],
) -> Float[Array, " S"]:
    """(I − γP^π)⁻¹ right, by LU, or by elimination written out for a few states."""
    matrix = dense_system(kernel, policy, discount)
    return eliminate(matrix, right) if right.size <= UNROLLED else jnp.linalg.solve(matrix, right)


def dense_system(
    kernel: Kernel, policy: Float[Array, "S A"], discount: ArrayLike
) -> Float[Array, "S S"]:
    """I − γP^π as a dense matrix."""
    factor = jnp.asarray(discount)
    chain = kernel.chain(policy * factor) if factor.ndim else factor * kernel.chain(policy)
    return jnp.eye(policy.shape[0], dtype=chain.dtype) - chain


def _shift(problem: Problem, low: Scalar, high: Scalar) -> Scalar:
    if not problem.uniform:
        return 0.0
    # where increments have both signs no constant is missing, and one would only add rounding
    middle = jnp.where(low * high > 0, (low + high) / 2, 0)
    return problem.discount / (1 - problem.discount) * middle


def _tangent(problem: Problem, state: State) -> Callable[[Float[Array, " S"]], Float[Array, " S"]]:
    """The affine operator that touches v -> value(r + γPv) at the present v."""
    chain = problem.chain(state.q)
    reward = state.image - chain.forward(state.v)
    return lambda v: reward + chain.forward(v)
