"""Q* of a tabular model and V^π of a policy, each with its residual and its derivative."""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from omd import implicit
from omd.errors import InputError
from omd.tabular import adjoint
from omd.tabular import search as searches
from omd.tabular.mdp import MDP
from omd.tabular.operators import Scalar
from omd.tabular.search import Problem, iterate, solve_dense

METHODS = {
    "value_iteration": (partial(iterate, step=searches.value_iteration), 100_000),
    "newton": (partial(iterate, step=searches.newton), 100),
    "modified_policy_iteration": (searches.modified_policy_iteration, 10_000),
}
"""Search for the fixed point and default number of iterations."""

DENSE_STATES = 256
"""Up to this many states, linear systems [S, S] are factorised unless asked otherwise."""


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
    Status.INACCURATE: "The solver ended by itself, but the residual is above the tolerance, which "
    "is beyond this precision: use float64 or a larger tolerance.",
    Status.NON_FINITE: "The answer or its residual is not finite.",
}


class Solution(eqx.Module):
    """Action and state values with what is known of them; all leaves are arrays."""

    q: Float[Array, "S A"]
    v: Float[Array, " S"]
    """The value of q's states: log-sum-exp or max over q, or V^π."""
    residual: Float[Array, ""]
    """‖Q − BQ‖∞, computed afresh. Q is within residual / (1 − γ) of the fixed point."""
    iterations: Int[Array, ""]
    """As the method counts them: sweeps, Newton steps, or policy improvements; 0 if direct."""
    status: Int[Array, ""]
    """A `Status`, as int32."""

    @property
    def message(self) -> str:
        """One line; for concrete, unbatched solutions."""
        status = Status(int(self.status))
        return (
            f"{status.name.lower()}: residual {float(self.residual):.2e} after "
            f"{int(self.iterations)} iterations. {status.sentence}"
        )


def solve(
    mdp: MDP,
    temperature: ArrayLike = 0.01,
    *,
    operator: str = "soft",
    method: str = "auto",
    tolerance: ArrayLike | None = None,
    max_iterations: int | None = None,
    q0: Float[Array, "S A"] | None = None,
    hypergradient: implicit.AbstractMethod | None = None,
    on_report: Callable[[implicit.Report], None] | None = None,
) -> Solution:
    """Q* with Q = BQ, eq. (2): soft at `temperature` (3), or the limit (9) with operator="hard".

    `method` is "value_iteration", "newton" (policy iteration, a dense [S, S] factorisation a
    step), "modified_policy_iteration" (matrix-free), or "auto": the second up to `DENSE_STATES`
    states, the third above. It starts from `q0`, or v = 0, and stops at ‖Q − BQ‖∞ ≤ `tolerance`;
    the default, 64 eps max(1, ‖r‖∞ / (1 − γ)), is about what rounding allows.

    q and v are differentiable in P, r, γ and the temperature, in reverse mode, under `jit` and
    `vmap`, by the implicit function theorem on h = Q − B^θ Q, eq. (7). `hypergradient` is how its
    linear system with the (not symmetric) I − γP^π is solved, and `on_report` hears of each such
    solve. The default solves the same theorem on v, A times smaller: by `implicit.Dense` or, above
    `DENSE_STATES`, `Sweeps` with `tolerance` relative to the right-hand side; gradients are NaN
    where it misses that. With the hard operator tied actions share the gradient equally.

    Raises `InputError` for an unknown operator or method and for temperature ≤ 0 with the soft
    operator. A solve that does not converge says so in `status` and raises nothing.
    """
    search, default_iterations = METHODS[_method(method, mdp)]
    alpha = _temperature(temperature, operator, mdp.reward.dtype)
    if tolerance is None:
        tolerance = _default_tolerance(mdp)
    iterations = default_iterations if max_iterations is None else max_iterations
    if q0 is not None and jnp.shape(q0) != mdp.reward.shape:
        raise InputError(
            f"q0 has shape {jnp.shape(q0)} where the MDP asks for [S, A] = {mdp.reward.shape}; "
            "give one value for each state and action."
        )
    limits = jnp.asarray(tolerance, mdp.reward.dtype), jnp.asarray(iterations, jnp.int32)
    q0 = None if q0 is None else jnp.asarray(q0, mdp.reward.dtype)
    return _solve(mdp, alpha, search, limits, q0, hypergradient, on_report)


@eqx.filter_jit
def _solve(mdp, temperature, search, limits, q0, hypergradient, on_report) -> Solution:
    tolerance, max_iterations = limits
    problem = Problem(mdp.transition, mdp.reward, mdp.discount, temperature)
    if hypergradient is None:
        start = jnp.zeros_like(mdp.initial) if q0 is None else problem.value(q0)
        v, count = _state_values(problem, search, start, limits, on_report)
        q = problem.lookahead(v)
    else:

        def solver(q, problem):
            # not from q where nobody gave one: XLA would spend seconds on folding the constant
            v = jnp.zeros_like(mdp.initial) if q0 is None else problem.value(q)
            _, q, count = search(problem, v=v, tolerance=tolerance, max_iterations=max_iterations)
            return q, count

        q, count = implicit.root(
            lambda q, problem: q - problem.bellman(q),
            solver,
            jnp.zeros_like(mdp.reward) if q0 is None else q0,
            problem,
            hypergradient=hypergradient,
            has_aux=True,
            on_report=on_report,
        )
    seen, found = jax.lax.stop_gradient((problem, q))
    residual = jnp.abs(found - seen.bellman(found)).max()
    status = _judge(residual, tolerance, count >= max_iterations)
    return Solution(q, problem.value(q), residual, count, status)


def _state_values(
    problem: Problem, search: Any, start: Array, limits: tuple[Array, Array], on_report: Any = None
) -> tuple[Float[Array, " S"], Int[Array, ""]]:
    """The fixed point v = value(r + γPv) and the iterations it took.

    Differentiated exactly: through (I − γP^π)ᵀ of v, with A times fewer unknowns than that of Q
    and the same answer.
    """
    tolerance, max_iterations = limits

    def solver(v, problem):
        # not value(q), which XLA would compute anew for each gather of it
        v, _, count = search(problem, v=v, tolerance=tolerance, max_iterations=max_iterations)
        return v, count

    return implicit.root(
        lambda v, problem: v - problem.value(problem.lookahead(v)),
        solver,
        start,
        problem,
        hypergradient=adjoint.default(start, problem.discount, tolerance, DENSE_STATES),
        has_aux=True,
        on_report=on_report,
    )


def evaluate(
    mdp: MDP,
    policy: Float[Array, "S A"],
    *,
    method: str = "auto",
    tolerance: ArrayLike | None = None,
    max_iterations: int = 100_000,
) -> Solution:
    """Q^π and V^π = (I − γP^π)⁻¹ r^π of a policy π[S, A].

    `method` is "dense" (closed form), "sweeps" (matrix-free, with `tolerance` and
    `max_iterations` sweeps), or "auto": by the number of states as in `solve`. Differentiable in
    the MDP and the policy. Raises `InputError` for an unknown method and for a policy of another
    shape or whose rows are no distributions, where it is concrete.
    """
    if method not in ("auto", "dense", "sweeps"):
        raise InputError(f"method must be auto, dense or sweeps, but is {method!r}; choose one.")
    if method == "auto":
        method = "dense" if mdp.num_states <= DENSE_STATES else "sweeps"
    _check_policy(mdp, policy)
    if tolerance is None:
        tolerance = _default_tolerance(mdp)
    limits = jnp.asarray(tolerance, mdp.reward.dtype), jnp.asarray(max_iterations, jnp.int32)
    return _evaluate(mdp, jnp.asarray(policy, mdp.reward.dtype), method, limits)


@eqx.filter_jit
def _evaluate(mdp, policy, method, limits) -> Solution:
    tolerance, max_iterations = limits
    problem = Problem(mdp.transition, mdp.reward, mdp.discount, policy=policy)
    if method == "dense":
        reward = problem.value(mdp.reward)
        v = solve_dense(mdp.transition, policy, mdp.discount, reward)
        count, used_up = jnp.int32(0), False
    else:
        search = partial(iterate, step=searches.shifted_value_iteration)
        v, count = _state_values(problem, search, jnp.zeros_like(mdp.initial), limits)
        used_up = count >= max_iterations
    q = problem.lookahead(v)
    residual = jax.lax.stop_gradient(jnp.abs(v - problem.value(q)).max())
    return Solution(q, v, residual, count, _judge(residual, tolerance, used_up))


def expected_return(
    mdp: MDP,
    policy: Float[Array, "S A"],
    *,
    method: str = "auto",
    tolerance: ArrayLike | None = None,
    max_iterations: int = 100_000,
) -> Float[Array, ""]:
    """J(π) = Σ_s ρ₀(s) V^π(s), in closed form up to `DENSE_STATES` states, by sweeps above.

    The settings are those of `evaluate`. NaN where its sweeps did not converge. Raises
    `InputError` as `evaluate` does.
    """
    solution = evaluate(
        mdp, policy, method=method, tolerance=tolerance, max_iterations=max_iterations
    )
    value = mdp.initial @ solution.v
    return jnp.where(solution.status == Status.MAX_ITERATIONS, jnp.nan, value)


def _judge(residual: Array, tolerance: Array, used_up: Array | bool) -> Int[Array, ""]:
    failed = jnp.where(used_up, Status.MAX_ITERATIONS, Status.INACCURATE)
    status = jnp.where(residual <= tolerance, Status.CONVERGED, failed)
    return jnp.where(jnp.isfinite(residual), status, Status.NON_FINITE).astype(jnp.int32)


def _default_tolerance(mdp: MDP) -> Array:
    scale = jnp.maximum(1, jnp.abs(mdp.reward).max() / (1 - mdp.discount))
    return jax.lax.stop_gradient(64 * jnp.finfo(mdp.reward.dtype).eps * scale)


def _method(method: str, mdp: MDP) -> str:
    if method == "auto":
        return "newton" if mdp.num_states <= DENSE_STATES else "modified_policy_iteration"
    if method not in METHODS:
        raise InputError(
            f"method must be auto or one of {', '.join(METHODS)}, but is {method!r}; choose one."
        )
    return method


def _temperature(temperature: ArrayLike, operator: str, dtype: Any) -> Scalar | None:
    if operator not in ("soft", "hard"):
        raise InputError(f"operator must be soft or hard, but is {operator!r}; choose one.")
    if operator == "hard":
        return None
    if jnp.shape(temperature) != ():
        raise InputError(
            f"temperature must be one number, but has shape {jnp.shape(temperature)}; "
            "vmap over several."
        )
    if not isinstance(temperature, jax.core.Tracer) and not 0 < np.asarray(temperature) < np.inf:
        raise InputError(
            f"the soft operator needs a finite temperature above 0, but it is {temperature}; "
            'use operator="hard" for the limit 0.'
        )
    return jnp.asarray(temperature, dtype)


def _check_policy(mdp: MDP, policy: ArrayLike) -> None:
    if jnp.shape(policy) != mdp.reward.shape:
        raise InputError(
            f"policy has shape {jnp.shape(policy)} where the MDP asks for [S, A] = "
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
