"""Who climbs the likelihood: SciPy, any optax transformation, any optimistix solver.

Each minimises loss(x, args) over a vector x, free (the nested fixed point) or where
violation(x, args) = 0 (the constrained form). Loss and violation are JAX functions.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from scipy.optimize import minimize

from omd import implicit
from omd.errors import InputError
from omd.tabular.design.lagrangian import saddle_point

Function = Callable[[Float[Array, " N"], Any], Array]


class Found(NamedTuple):
    """Where an optimiser ended."""

    x: Float[np.ndarray, " N"]
    iterations: int
    message: str


class Optimizer(abc.ABC):
    """A way to minimise a function of a vector, with or without equalities."""

    default_limit: ClassVar[int] = 20_000
    """Iterations where a user names no number."""

    @abc.abstractmethod
    def free(self, loss: Function, x0: Float[Array, " N"], args: Any, limit: int) -> Found:
        """A minimum of loss(x, args), in at most `limit` iterations."""

    @abc.abstractmethod
    def constrained(
        self, loss: Function, violation: Function, x0: Float[Array, " N"], args: Any, limit: int
    ) -> Found:
        """A minimum of loss(x, args) where violation(x, args) = 0, which has the last entries of x
        as a function of the others."""


@dataclasses.dataclass(frozen=True)
class SciPy(Optimizer):
    """`scipy.optimize.minimize` with exact derivatives: trust-exact with the Hessian where
    nothing is constrained, else SLSQP with a dense Jacobian of the violation."""

    default_limit: ClassVar[int] = 200
    tolerance: float = 1e-9
    """Largest entry of the gradient of the mean log-likelihood at the end."""

    def free(self, loss: Function, x0: Float[Array, " N"], args: Any, limit: int) -> Found:
        seen: dict[bytes, Any] = {}

        def at(x: np.ndarray) -> Any:
            key = x.tobytes()
            if key not in seen:
                seen.clear()
                seen[key] = [np.asarray(y) for y in expansion(loss, jnp.asarray(x), args)]
            return seen[key]

        if not all(np.isfinite(y).all() for y in at(np.asarray(x0))):
            raise InputError(
                f"the likelihood has no finite value, gradient and curvature at the start "
                f"{np.asarray(x0).tolist()}; start elsewhere, or check the model there with solve."
            )

        def value(x: np.ndarray) -> float:
            parts = at(x)
            # a step to where anything is lost is too long
            return float(parts[0]) if all(np.isfinite(y).all() for y in parts) else np.inf

        end = minimize(
            value,
            np.asarray(x0),
            jac=lambda x: at(x)[1],
            hess=lambda x: at(x)[2],
            method="trust-exact",
            options={"gtol": self.tolerance, "maxiter": limit},
        )
        return Found(end.x, int(end.nit), str(end.message))

    def constrained(
        self, loss: Function, violation: Function, x0: Float[Array, " N"], args: Any, limit: int
    ) -> Found:
        def missing(x: np.ndarray) -> list[np.ndarray]:
            return [np.asarray(y) for y in _linear(violation, jnp.asarray(x), args)]

        def parts(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = _sloped(loss, jnp.asarray(x), args)
            return float(value), np.asarray(slope)

        end = minimize(
            parts,
            np.asarray(x0),
            jac=True,
            method="SLSQP",
            constraints={
                "type": "eq",
                "fun": lambda x: missing(x)[0],
                "jac": lambda x: missing(x)[1],
            },
            options={"maxiter": limit, "ftol": 1e-14},
        )
        return Found(end.x, int(end.nit), str(end.message))


@dataclasses.dataclass(frozen=True)
class Optax(Optimizer):
    """Steps of an optax transformation in one compiled program, those with a line search among
    them. With constraints: descent in x and ascent in multipliers on the augmented Lagrangian, the
    loop of `tabular.find_saddle`."""

    transformation: optax.GradientTransformation = dataclasses.field(default_factory=optax.lbfgs)
    tolerance: float = 1e-8
    """Largest entry of the gradient of the mean log-likelihood at the end; with constraints the
    largest relative change of an iteration."""
    penalty: float = 10.0
    multiplier_rate: float = 0.1

    def free(self, loss: Function, x0: Float[Array, " N"], args: Any, limit: int) -> Found:
        x, count = _descended(loss, x0, args, self.transformation, self.tolerance, limit)
        return Found(np.asarray(x), int(count), _ended(int(count), limit))

    def constrained(
        self, loss: Function, violation: Function, x0: Float[Array, " N"], args: Any, limit: int
    ) -> Found:
        x, count = _saddle(
            loss,
            violation,
            x0,
            args,
            self.transformation,
            self.penalty,
            self.multiplier_rate,
            self.tolerance,
            limit,
        )
        return Found(np.asarray(x), int(count), _ended(int(count), limit))


@dataclasses.dataclass(frozen=True)
class Optimistix(Optimizer):
    """An optimistix solver: a minimiser such as `optimistix.BFGS(1e-10, 1e-10)`; with constraints a
    root finder such as `optimistix.Dogleg(1e-10, 1e-10)`, for the conditions of Karush, Kuhn and
    Tucker (`implicit.kkt`)."""

    solver: Any

    def free(self, loss: Function, x0: Float[Array, " N"], args: Any, limit: int) -> Found:
        import optimistix

        end: Any = optimistix.minimise(loss, self.solver, x0, args, max_steps=limit, throw=False)
        return _found(end, end.value)

    def constrained(
        self, loss: Function, violation: Function, x0: Float[Array, " N"], args: Any, limit: int
    ) -> Found:
        end = _rooted(loss, violation, x0, args, self.solver, limit)
        return _found(end, end.value.primal)


@eqx.filter_jit
def expansion(
    function: Function, x: Float[Array, " N"], args: Any
) -> tuple[Float[Array, ""], Float[Array, " N"], Float[Array, "N N"]]:
    """(function, its gradient, its Hessian) at x, by one program."""

    def sloped(x: Float[Array, " N"]) -> tuple[Array, tuple[Array, Array]]:
        value, slope = jax.value_and_grad(function)(x, args)
        return slope, (value, slope)

    curvature, (value, slope) = jax.jacfwd(sloped, has_aux=True)(x)
    return value, slope, curvature


@eqx.filter_jit
def _sloped(function: Function, x: Array, args: Any) -> tuple[Array, Array]:
    return jax.value_and_grad(function)(x, args)


@eqx.filter_jit
def _linear(function: Function, x: Array, args: Any) -> tuple[Array, Array]:
    return function(x, args), jax.jacfwd(function)(x, args)


@eqx.filter_jit
def _descended(loss, x0, args, transformation, tolerance, limit):
    method = optax.with_extra_args_support(transformation)

    def value(x: Array) -> Array:
        return loss(x, args)

    def going(carry):
        *_, steepness, count = carry
        return (steepness > tolerance) & (count < limit)

    def step(carry):
        x, state, _, count = carry
        v, slope = jax.value_and_grad(value)(x)
        updates, state = method.update(slope, state, x, value=v, grad=slope, value_fn=value)
        steep = jnp.abs(slope).max()
        # at a minimum a line search has nowhere to go
        moved = jnp.where(steep > tolerance, optax.apply_updates(x, updates), x)
        return moved, state, steep, count + 1

    start = (x0, method.init(x0), jnp.asarray(jnp.inf), jnp.int32(0))
    x, _, _, count = jax.lax.while_loop(going, step, start)
    return x, count


@eqx.filter_jit
def _saddle(loss, violation, x0, args, transformation, penalty, multiplier_rate, tolerance, limit):
    end = saddle_point(
        lambda x: (loss(x, args), violation(x, args)),
        x0,
        jnp.zeros(jax.eval_shape(violation, x0, args).shape),
        penalty=penalty,
        multiplier_rate=multiplier_rate,
        optimizer=transformation,
        max_steps=limit,
        tolerance=tolerance,
    )
    return end.variables.primal, end.step


@eqx.filter_jit
def _rooted(loss, violation, x0, args, solver, limit):
    import optimistix

    conditions = implicit.kkt(
        lambda x, _, args: loss(x, args), lambda x, _, args: violation(x, args)
    )
    # where the start is feasible these make its loss that of the free variables
    slope, (gap, jacobian) = jax.grad(loss)(x0, args), _linear(violation, x0, args)
    multiplier = -jnp.linalg.solve(jacobian[:, -gap.size :].T, slope[-gap.size :])
    return optimistix.root_find(
        lambda w, args: conditions(w, None, args),
        solver,
        implicit.KKT(x0, multiplier),
        args,
        max_steps=limit,
        throw=False,
    )


def _ended(count: int, limit: int) -> str:
    return f"all {limit} iterations were used" if count >= limit else "the tolerance was reached"


def _found(end: Any, x: Array) -> Found:
    import optimistix

    words: Any = optimistix.RESULTS
    message = words[end.result] or "the tolerance was reached"
    return Found(np.asarray(x), int(end.stats["num_steps"]), message)
