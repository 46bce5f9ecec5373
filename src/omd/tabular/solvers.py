"""Q* of a tabular model and V^π of a policy, each with a bound on its error and its derivative."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from omd import implicit
from omd.errors import InputError
from omd.tabular import search
from omd.tabular.adjoint import differentiable
from omd.tabular.checks import check_count, one_number, real_array
from omd.tabular.kernels import Numbers, as_kernel
from omd.tabular.linear import resolvent
from omd.tabular.mdp import MDP
from omd.tabular.search import Goal, Problem, settle, stepping

Operator = Literal["soft", "hard"]
Method = Literal[
    "auto", "value_iteration", "newton", "modified_policy_iteration", "inexact_policy_iteration"
]
EvaluationMethod = Literal["auto", "dense", "sweeps", "krylov"]

METHODS = {
    "value_iteration": (stepping(search.value_iteration, search.CHUNK), 10_000_000),
    "newton": (stepping(search.newton, 1), None),
    "modified_policy_iteration": (search.modified, 10_000_000),
    "inexact_policy_iteration": (search.inexact, 100_000),
}
"""Search for the fixed point and default number of iterations; None is 100 + the states."""

DENSE_STATES = 256
"""Up to this many states, linear systems [S, S] are factorised unless asked otherwise."""

ACCURATE = 1e-6
"""A solve without a tolerance has converged where Q is certainly this close, relative to the
largest value."""


class Status(enum.IntEnum):
    """How a solve ended; `Status(int(solution.status)).sentence` says it in words."""

    CONVERGED = 0
    MAX_ITERATIONS = 1
    INACCURATE = 2
    NON_FINITE = 3

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    Status.CONVERGED: "The residual, computed afresh from the answer, is within the tolerance.",
    Status.MAX_ITERATIONS: "All iterations were used and the residual is above the tolerance: "
    "allow more iterations or take another method.",
    Status.INACCURATE: "The solver ended by itself, but its error may be above the tolerance, "
    "which is beyond double precision: use a larger tolerance or a smaller discount.",
    Status.NON_FINITE: "The answer or its residual is not finite.",
}


class Solution(eqx.Module):
    """Action and state values with what is known of them; all leaves are arrays.

    Found in float64, and rounded to the precision of the MDP at the end.
    """

    q: Float[Array, "S A"]
    """−∞ where an action is not available."""
    v: Float[Array, " S"]
    """The value of q's states: log-sum-exp or max over q, or V^π."""
    policy: Float[Array, "S A"]
    """The policy of q before it was rounded: softmax, the first best action, or the one given.
    Near γ = 1 differences between actions are lost when q is rounded to float32."""
    residual: Float[Array, ""]
    """‖Q − BQ‖∞ before rounding, computed afresh."""
    error: Float[Array, ""]
    """‖Q − Q*‖∞ is at most this, before rounding: residual / (1 − γ), or where the discount
    varies or is 1, what the chain of the policy makes of the residual."""
    iterations: Int[Array, ""]
    """As the method counts them: sweeps, Newton steps, improvements, products; 0 if direct."""
    status: Int[Array, ""]
    """A `Status`, as int32."""

    @property
    def message(self) -> str:
        """One line; for concrete, unbatched solutions."""
        status = Status(int(self.status))
        return (
            f"{status.name.lower()}: residual {float(self.residual):.2e}, error at most "
            f"{float(self.error):.2e}, after {int(self.iterations)} iterations. {status.sentence}"
        )


def solve(
    mdp: MDP,
    temperature: ArrayLike = 0.01,
    *,
    operator: Operator = "soft",
    method: Method = "auto",
    tolerance: ArrayLike | None = None,
    max_iterations: int | None = None,
    q0: Numbers | None = None,
    hypergradient: implicit.AbstractMethod | None = None,
    on_report: Callable[[implicit.Report], None] | None = None,
) -> Solution:
    """Q* with Q = BQ, eq. (2): soft at `temperature` (3), or the limit (9) with operator="hard".

    `method` is "value_iteration", "newton" (policy iteration, a dense [S, S] factorisation a
    step), "modified_policy_iteration" (matrix-free sweeps), "inexact_policy_iteration" (the same,
    and BiCGStab where sweeps are slow, as with γ near 1), or "auto": Newton up to `DENSE_STATES`
    states, the last above. It starts from `q0`, or v = 0.

    Without a `tolerance` it goes on until every state's equation holds to a few units of rounding
    of what it adds up, and has converged where `Solution.error` is at most `ACCURATE` of the
    largest value. With one it stops at ‖Q − BQ‖∞ ≤ tolerance. All arithmetic is in float64,
    whatever the precision of the MDP and JAX's default; rows of P in float32 count as divided by
    their sum.

    q and v are differentiable in P, r, γ and the temperature, in both modes and to any order, under
    `jit` and `vmap`, by the implicit function theorem on v, eq. (7): by a factorisation up to
    `DENSE_STATES` states and by sweeps and BiCGStab above, to a relative residual of the tolerance,
    at most 1e-4 and 1e-11 where there is none. NaN where it is missed. With the hard operator tied
    actions share the gradient equally. `hypergradient` takes the theorem on h = Q − B^θ Q instead,
    in the precision of the MDP, with a method of your own for its (not symmetric) system.
    `on_report` hears of each solve of a transposed system.

    Raises `InputError` for an unknown operator or method, for temperature ≤ 0 with the soft
    operator, for a tolerance or a number of iterations below or at 0, and for a q0 of another
    shape or that is not finite. A solve that does not converge says so in `status`.
    """
    where, default_iterations = METHODS[_method(method, mdp)]
    check_operator(operator)
    if default_iterations is None:
        default_iterations = 100 + mdp.num_states
    iterations = default_iterations if max_iterations is None else max_iterations
    check_start(mdp, q0)
    with jax.enable_x64(True):
        alpha = None if operator == "hard" else check_temperature(temperature)
        goal, limit = _goal(tolerance, iterations)
        start = None if q0 is None else jnp.asarray(q0, jnp.float64)
        if hypergradient is None:
            return _solve(mdp, alpha, where, goal, limit, start, on_report)
    own = None if alpha is None else jnp.asarray(temperature, mdp.reward.dtype)
    return _solve_by_q(mdp, own, alpha, where, goal, limit, start, hypergradient, on_report)


@eqx.filter_jit
def _solve(mdp, temperature, where, goal, limit, q0, on_report) -> Solution:
    problem = wide_problem(mdp, temperature)
    fixed = jax.lax.stop_gradient(problem)
    start = jnp.zeros(mdp.num_states) if q0 is None else fixed.value(q0)
    found, _, count = settle(fixed, where, start, goal, limit)
    rtol = jnp.clip(jnp.where(goal.absolute > 0, goal.absolute, 0), 1e-11, 1e-4)
    v = differentiable(problem, found, mdp.num_states <= DENSE_STATES, rtol, on_report)
    q = problem.lookahead(v)
    return _solution(mdp, problem, fixed, found, q, problem.value(q), goal, count, limit)


def _solve_by_q(mdp, own, alpha, where, goal, limit, q0, hypergradient, on_report) -> Solution:
    """The theorem on Q in the MDP's precision, about a Q that was found in float64."""
    dtype = mdp.reward.dtype

    def forward(mdp):
        with jax.enable_x64(True):
            return jax.lax.stop_gradient(_solve(mdp, alpha, where, goal, limit, q0, None))

    def constraint(q, both):
        problem = _problem(both[0], both[1], dtype)
        return q - problem.bellman(q)

    solution = forward(mdp)
    available = jnp.zeros_like(mdp.reward) if mdp.mask is None else mdp.mask
    start = solution.q if mdp.mask is None else jnp.where(available, solution.q, 0)
    q = implicit.root(
        constraint,
        lambda q, both: q,
        start,
        (mdp, own),
        hypergradient=hypergradient,
        throw=False,
        on_report=on_report,
    )
    problem = _problem(mdp, own, dtype)
    # before −∞ is put in, whose derivatives are NaN
    value = problem.value(q)
    q = q if mdp.mask is None else jnp.where(mdp.mask, q, -jnp.inf)
    return eqx.tree_at(lambda s: (s.q, s.v), solution, (q, value))


def _solution(mdp, problem, fixed, v, q, value, goal, count, limit, policy=None) -> Solution:
    """What a search found, judged afresh at v and rounded to the MDP's precision."""
    seen = jax.lax.stop_gradient(q)
    gap, eps = jnp.abs(fixed.value(seen) - v), jnp.finfo(v.dtype).eps
    allowed = goal.thresholds(fixed, v, seen)
    inside = (gap <= 2 * allowed).all()
    # γ by row; the sums of rows cost a pass over all of them
    factor = fixed.discount if fixed.uniform else fixed.discount * fixed.kernel.totals()
    residual = jnp.where(_mask(mdp), factor * gap.max(), 0).max()
    # an ulp or four of what was added up; the thresholds are 32 of it, or what was asked for
    uncertain = gap + jnp.where(goal.absolute > 0, 4 * eps * jnp.abs(v), allowed / 8)
    # terms below the smallest normal number were taken for 0
    uncertain = uncertain + jnp.where(v == 0, 0, 64 * jnp.finfo(v.dtype).tiny)
    if fixed.uniform:
        error = fixed.discount * uncertain.max() / (1 - fixed.discount)
    else:
        dense = mdp.num_states <= DENSE_STATES
        far, _ = resolvent(fixed.chain(seen), uncertain, dense=dense, rtol=1e-3)
        error = far.max()
    asked = goal.absolute > 0
    close = error <= ACCURATE * jnp.abs(v).max()
    good = jnp.where(asked, residual <= goal.absolute, inside & (close | (error == 0)))
    failed = jnp.where(inside | (count < limit), Status.INACCURATE, Status.MAX_ITERATIONS)
    status = jnp.where(good, Status.CONVERGED, failed)
    finite = jnp.isfinite(residual) & jnp.isfinite(v).all() & jnp.isfinite(error)
    status = jnp.where(finite, status, Status.NON_FINITE).astype(jnp.int32)
    policy = problem.derivative(q) if policy is None else policy
    q = q if mdp.mask is None else jnp.where(mdp.mask, q, -jnp.inf)
    dtype = mdp.reward.dtype
    q, value, policy, residual, error = (
        x.astype(dtype) for x in (q, value, policy, residual, error)
    )
    # too large for the precision they are returned in
    status = jnp.where(jnp.isfinite(value).all(), status, Status.NON_FINITE)
    return Solution(q, value, policy, residual, error, count, status)


def _mask(mdp: MDP) -> ArrayLike:
    return True if mdp.mask is None else mdp.mask


def wide_problem(
    mdp: MDP, temperature: ArrayLike | None = None, policy: ArrayLike | None = None
) -> Problem:
    """The operator of an MDP in float64; rows and policies in float32 count as distributions.

    To be called where 64-bit numbers are enabled.
    """
    problem = _problem(widened(mdp), temperature, jnp.float64)
    if policy is None:
        return problem
    chosen = jnp.asarray(policy, jnp.float64)
    if jnp.asarray(policy).dtype != jnp.float64:
        chosen = chosen / jax.lax.stop_gradient(chosen.sum(axis=-1, keepdims=True))
    return problem._replace(policy=chosen)


def widened(mdp: MDP) -> MDP:
    """The MDP in float64, its rows divided by their sum where they were in float32.

    To be called where 64-bit numbers are enabled.
    """
    if mdp.reward.dtype == jnp.float64:
        return mdp
    kernel = as_kernel(mdp.transition).cast(jnp.float64).scaled_to_one()
    rows = kernel if mdp.is_sparse else kernel.todense()
    reward = jnp.asarray(mdp.reward, jnp.float64)
    return eqx.tree_at(lambda m: (m.transition, m.reward), mdp, (rows, reward))


def _problem(mdp: MDP, temperature: Any, dtype: Any) -> Problem:
    kernel = as_kernel(mdp.transition).cast(dtype)
    reward = jnp.asarray(mdp.reward, dtype)
    if mdp.mask is not None:
        reward = jnp.where(mdp.mask, reward, 0)
    discount = jnp.asarray(mdp.discount, dtype)
    if mdp.ends is not None:
        # a step from there leads nowhere else; no discount of 1 is left that never ends
        over = mdp.ends.reshape(-1, *(1,) * max(discount.ndim - 1, 0))
        discount = jnp.where(over, 0, discount)
    if discount.ndim == 3:
        kernel, discount = kernel.scaled(discount), jnp.ones((mdp.num_states, 1), dtype)
    elif discount.ndim == 1:
        discount = discount[:, None]
    return Problem(kernel, reward, discount, temperature, None, mdp.mask, mdp.ends)


def evaluate(
    mdp: MDP,
    policy: Numbers,
    *,
    method: EvaluationMethod = "auto",
    tolerance: ArrayLike | None = None,
    max_iterations: int = 200_000,
) -> Solution:
    """Q^π and V^π = (I − γP^π)⁻¹ r^π of a policy π[S, A].

    `method` is "dense" (a factorisation), "sweeps" (matrix-free), "krylov" (sweeps, and BiCGStab
    where these are slow), or "auto": the first up to `DENSE_STATES` states, the last above.
    `tolerance` and `max_iterations` are for the last two and are meant as in `solve`, whose remarks
    on precision hold here too. Differentiable in the MDP and the policy.

    Raises `InputError` for an unknown method, a tolerance or a number of iterations below or at 0,
    and for a policy of another shape, whose rows are no distributions, or which takes a masked
    action, where it is concrete.
    """
    with jax.enable_x64(True):
        return _evaluated(mdp, policy, method, tolerance, max_iterations)[0]


def expected_return(
    mdp: MDP,
    policy: Numbers,
    *,
    method: EvaluationMethod = "auto",
    tolerance: ArrayLike | None = None,
    max_iterations: int = 200_000,
) -> Float[Array, ""]:
    """J(π) = Σ_s ρ₀(s) V^π(s), in closed form up to `DENSE_STATES` states, matrix-free above.

    The settings are those of `evaluate`. NaN where it did not converge within its iterations.
    Raises `InputError` as `evaluate` does.
    """
    with jax.enable_x64(True):
        return _evaluated(mdp, policy, method, tolerance, max_iterations)[1]


def _evaluated(mdp, policy, method, tolerance, max_iterations) -> tuple[Solution, Array]:
    if method not in ("auto", "dense", "sweeps", "krylov"):
        raise InputError(
            f"method must be auto, dense, sweeps or krylov, but is {method!r}; choose one."
        )
    if method == "auto":
        method = "dense" if mdp.num_states <= DENSE_STATES else "krylov"
    check_policy(mdp, policy)
    goal, limit = _goal(tolerance, max_iterations)
    return _evaluate(mdp, jnp.asarray(policy), method, goal, limit)


@eqx.filter_jit
def _evaluate(mdp, policy, method, goal, limit) -> tuple[Solution, Array]:
    problem = wide_problem(mdp, policy=policy)
    fixed = jax.lax.stop_gradient(problem)
    policy = problem.derivative(mdp.reward)
    chain = problem.chain(policy)
    if method == "dense":
        reward = (policy * problem.reward).sum(axis=-1)
        v, _ = resolvent(chain, reward, dense=True)
        # not the solve's, which `jacfwd` takes for one that depends on the direction
        count = jnp.int32(0)
    else:
        sweeps = stepping(search.shifted_value_iteration, search.CHUNK)
        advance = sweeps if method == "sweeps" else search.inexact
        found, _, count = settle(fixed, advance, jnp.zeros(mdp.num_states), goal, limit)
        rtol = jnp.clip(goal.absolute, 1e-11, 1e-4)
        v = differentiable(problem, found, False, rtol, None)
    q = problem.lookahead(v)
    found = jax.lax.stop_gradient(v)
    solution = _solution(
        mdp, problem, fixed, found, q, v, goal, count, limit + (method == "dense"), policy
    )
    start = jnp.asarray(mdp.initial, jnp.float64)
    if mdp.initial.dtype != jnp.float64:
        start = start / jax.lax.stop_gradient(start.sum())
    value = (start * v).sum().astype(mdp.reward.dtype)
    return solution, jnp.where(solution.status == Status.MAX_ITERATIONS, jnp.nan, value)


def _method(method: str, mdp: MDP) -> str:
    if method == "auto":
        return "newton" if mdp.num_states <= DENSE_STATES else "inexact_policy_iteration"
    if not isinstance(method, str) or method not in METHODS:
        raise InputError(
            f"method must be auto or one of {', '.join(METHODS)}, but is {method!r}; choose one."
        )
    return method


def check_operator(operator: str) -> None:
    """Raises `InputError` for an operator that is neither soft nor hard."""
    if operator not in ("soft", "hard"):
        raise InputError(f"operator must be soft or hard, but is {operator!r}; choose one.")


def check_start(mdp: MDP, q0: Numbers | None) -> None:
    """Raises `InputError` for a q0 of another shape, or not finite where an action is offered."""
    if q0 is None:
        return
    start = real_array("q0", q0)
    if np.shape(start) != mdp.reward.shape:
        raise InputError(
            f"q0 has shape {np.shape(start)} where the MDP asks for [S, A] = {mdp.reward.shape}; "
            "give one value for each state and action."
        )
    if isinstance(start, jax.core.Tracer) or isinstance(mdp.mask, jax.core.Tracer):
        return
    wrong = ~np.isfinite(np.asarray(start)) & np.asarray(_mask(mdp))
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise InputError(f"q0{at} is {np.asarray(start)[at]}; give finite values.")


def check_temperature(temperature: ArrayLike) -> Float[Array, ""] | Float[np.ndarray, ""]:
    """The temperature in float64; `InputError` where it is not one number above 0."""
    alpha = one_number("temperature", temperature)
    # what was given, since `alpha` is traced under jit
    tiny = np.finfo(np.float64).tiny  # smaller ones are taken for 0 by XLA
    known = not isinstance(temperature, jax.core.Tracer)
    if known and not tiny <= np.asarray(temperature, np.float64) < np.inf:
        raise InputError(
            f"the soft operator needs a finite temperature above 0, but it is {temperature}; "
            'use operator="hard" for the limit 0.'
        )
    return alpha


def _goal(tolerance: ArrayLike | None, max_iterations: int) -> tuple[Goal, Int[np.ndarray, ""]]:
    """Where a search stops; to be called where 64-bit numbers are enabled."""
    check_count("max_iterations", max_iterations)
    limit = np.asarray(max_iterations, np.int32)
    if tolerance is None:
        return Goal(np.asarray(0.0)), limit
    asked = one_number("tolerance", tolerance)
    if not isinstance(tolerance, jax.core.Tracer) and not 0 < np.asarray(tolerance) < np.inf:
        raise InputError(
            f"tolerance must be a finite number above 0, but is {tolerance}; leave it out for all "
            "that the precision gives."
        )
    return Goal(asked), limit


def check_policy(mdp: MDP, policy: Numbers) -> None:
    """Raises `InputError` where a policy is none for this MDP; values where they are concrete."""
    policy = real_array("policy", policy)
    if np.shape(policy) != mdp.reward.shape:
        raise InputError(
            f"policy has shape {np.shape(policy)} where the MDP asks for [S, A] = "
            f"{mdp.reward.shape}; give one probability for each state and action."
        )
    if isinstance(policy, jax.core.Tracer):
        return
    rows = np.asarray(policy)
    sums = rows.sum(axis=-1)
    wrong = ~((rows >= 0).all(axis=-1) & (np.abs(sums - 1) <= 1e-5))
    if wrong.any():
        state = int(wrong.argmax())
        raise InputError(
            f"the policy at state {state} is {rows[state].tolist()} and sums to {sums[state]}; "
            "every row must be a distribution over actions."
        )
    if mdp.mask is None or isinstance(mdp.mask, jax.core.Tracer):
        return
    taken = (rows > 0) & ~np.asarray(mdp.mask)
    if taken.any():
        state, action = (int(i) for i in np.argwhere(taken)[0])
        raise InputError(
            f"the policy takes action {action} at state {state} with probability "
            f"{rows[state, action]}, but the MDP doesn't offer it there; give it probability 0."
        )
