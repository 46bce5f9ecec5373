"""Model design for tabular MDPs, section 4: OMD and MLE as an objective under a constraint.

    minimise objective(Q, θ)  subject to  h(Q, θ) = 0

with θ = (logits, reward). Q = φ(θ) is an implicit function of θ, eq. (4), differentiated by
`omd.implicit.root`, eq. (5) and (7).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy
from jaxtyping import Array, ArrayLike, Float

from omd import implicit
from omd.errors import InputError
from omd.tabular.design.projection import Model
from omd.tabular.elimination import UNROLLED, Elimination
from omd.tabular.kernels import Rows, as_kernel
from omd.tabular.mdp import MDP, check_plain
from omd.tabular.operators import bellman_error, soft_bellman, softmax_policy
from omd.tabular.search import Problem, State, newton, solve_dense


class Objective(NamedTuple):
    """What the outer loop minimises."""

    name: str
    loss: Callable[[Float[Array, "S A"], Model, Design], Float[Array, ""]]
    """(Q, θ, design) -> a number."""
    of_solution: bool
    """Whether the loss depends on Q; where it doesn't, Q is solved for once, at the end."""


def _negative_return(q: Float[Array, "S A"], theta: Model, design: Design) -> Float[Array, ""]:
    return -design.expected_return(q)


def _bellman_error(q: Float[Array, "S A"], theta: Model, design: Design) -> Float[Array, ""]:
    return bellman_error(design.mdp, q, design.temperature)


def _likelihood(q: Float[Array, "S A"], theta: Model, design: Design) -> Float[Array, ""]:
    log_p = jax.nn.log_softmax(theta.logits / design.logit_temperature, axis=-1)
    p: Any = design.mdp.transition
    divergence = jnp.sum(xlogy(p, p) - p * log_p, axis=-1).mean()
    return divergence + jnp.mean((theta.reward - design.mdp.reward) ** 2)


RETURN = Objective("return", _negative_return, of_solution=True)
"""OMD with −J, the negative expected return in the true MDP: eq. (2) and (5)."""
BELLMAN_ERROR = Objective("bellman_error", _bellman_error, of_solution=True)
"""OMD with L^true, the sum of squared Bellman errors in the true MDP: eq. (6)."""
LIKELIHOOD = Objective("likelihood", _likelihood, of_solution=False)
"""MLE: KL(p‖p_θ) averaged over state-action pairs plus the mean squared reward error (§4.2)."""


def bellman_constraint(q: Float[Array, "S A"], theta: Model, design: Design) -> Float[Array, "S A"]:
    """h = Q − B^θ Q, the constraint of eq. (2) and (6)."""
    return q - design.operator(q, theta)


def gradient_constraint(
    q: Float[Array, "S A"], theta: Model, design: Design
) -> Float[Array, "S A"]:
    """h = ∂/∂Q Σ (Q − B^θ Q)², the constraint of eq. (12) in the tabular case (appendix E).

    The gradient passes through B^θ Q as well. I − γP^π is invertible, so the only zero is the
    fixed point, and the exact hypergradient is that of `bellman_constraint`; approximations of
    the inverse Jacobian differ.
    """
    return jax.grad(lambda x: jnp.sum((x - design.operator(x, theta)) ** 2))(q)


class Design(eqx.Module):
    """One problem of model design: a true MDP, an objective, a constraint and a way to φ'.

    p_θ = softmax(logits / logit_temperature). At 1 (default) the logits are the effective ones, so
    that ‖θ‖, gradient and projection speak of the same coordinates; the authors' program divides
    by 0.01. `temperature` α > 0 is that of B^θ, of B and of the policy. `hypergradient` is how
    (∂h/∂Q)ᵀ u = g is solved: exactly, by a dense factorisation, where it is None.

    Raises `InputError` for a sparse MDP, one with a mask or with several discounts, or a
    temperature that is not positive.
    """

    mdp: MDP
    objective: Objective = eqx.field(static=True)
    constraint: Callable[..., Array] = eqx.field(static=True, default=bellman_constraint)
    hypergradient: implicit.AbstractMethod | None = None
    temperature: float = 0.01
    logit_temperature: float = 1.0

    def __check_init__(self) -> None:
        if self.mdp.is_sparse:
            raise InputError(
                "model design needs a dense MDP, but the transitions given are sparse; "
                "build it from transition.todense()."
            )
        check_plain(self.mdp)
        for name in ("temperature", "logit_temperature"):
            value = getattr(self, name)
            if not isinstance(value, jax.core.Tracer) and not float(value) > 0:
                raise InputError(f"{name} must be above 0, but is {value}; the paper has 0.01.")

    def transition(self, theta: Model) -> Float[Array, "*lanes S A S"]:
        """p_θ(s'|s, a)."""
        return jax.nn.softmax(theta.logits / self.logit_temperature, axis=-1)

    def operator(self, q: Float[ArrayLike, "S A"], theta: Model) -> Float[Array, "S A"]:
        """B^θ Q, eq. (3)."""
        p = self.transition(theta)
        return soft_bellman(p, theta.reward, self.mdp.discount, q, self.temperature)

    def expected_return(self, q: Float[ArrayLike, "S A"]) -> Float[Array, ""]:
        """J of the softmax policy of Q in the true MDP, in closed form."""
        policy = softmax_policy(q, self.temperature)
        reward = (policy * self.mdp.reward).sum(axis=-1)
        v = solve_dense(as_kernel(self.mdp.transition), policy, self.mdp.discount, reward)
        return self.mdp.initial @ v

    def solution(self, theta: Model, q0: Float[Array, "S A"]) -> Float[Array, "S A"]:
        """φ(θ): the fixed point of B^θ, found from q0 on; differentiable in θ, eq. (7)."""
        method = self.hypergradient
        if method is None:
            method = Elimination() if q0.size <= UNROLLED else implicit.Dense()
        return implicit.root(
            self.constraint, _fixed_point, q0, theta, self, hypergradient=method, throw=False
        )

    def loss(
        self, theta: Model, q0: Float[Array, "S A"], noise: Float[Array, "S A"] | None = None
    ) -> tuple[Float[Array, ""], Float[Array, "S A"]]:
        """(objective(φ(θ) + noise, θ), φ(θ)); noise is that of appendix C. q0 as in `solution`."""
        if not self.objective.of_solution:
            return self.objective.loss(q0, theta, self), q0
        q = self.solution(theta, q0)
        return self.objective.loss(q if noise is None else q + noise, theta, self), q


def _fixed_point(q0: Float[Array, "S A"], theta: Model, design: Design) -> Float[Array, "S A"]:
    """Soft policy iteration from q0 on, until only rounding is left at the scale of the values."""
    p = design.transition(theta)
    discount = jnp.asarray(design.mdp.discount, p.dtype)
    problem = Problem(Rows(p), theta.reward, discount, design.temperature)
    largest = jnp.abs(theta.reward).max()
    rounding = 1e-12 if p.dtype == jnp.float64 else 64 * jnp.finfo(p.dtype).eps

    def unfinished(carry):
        v, _, gap, count = carry
        # one penalty may be far above all values
        scale = jnp.minimum(largest, jnp.abs(v).max()) / (1 - discount)
        return (gap > rounding * jnp.maximum(1, scale)) & (count < 100)

    def advance(carry):
        v, q, _, count = carry
        state = State(v, q, problem.value(q))
        gap = discount * jnp.abs(state.image - v).max()
        v = newton(problem, state, 0.0)
        return v, problem.swept(v), gap, count + 1

    v = problem.value(q0)
    start = (v, problem.swept(v), jnp.asarray(jnp.inf, v.dtype), jnp.int32(0))
    return jax.lax.while_loop(unfinished, advance, start)[1]
