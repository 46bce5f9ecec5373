"""Small problems with a known or computable solution, to try hypergradients on.

Arrays come in JAX's default precision; with 64 bits enabled the solvers are exact enough for
finite differences to 1e-6.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from omd.errors import closest
from omd.implicit.comparison import GradCheck, gradcheck
from omd.implicit.methods import AbstractMethod, Kind
from omd.implicit.registry import classes
from omd.implicit.roots import from_fixed_point
from omd.implicit.trees import subtract


@dataclasses.dataclass(frozen=True)
class Problem:
    """A bi-level problem: minimise outer_loss(w*(θ), θ, *aux) with constraint(w*, θ, *aux) = 0."""

    name: str
    summary: str
    outer_loss: Callable[..., Array]
    constraint: Callable[..., PyTree]
    solver: Callable[..., PyTree]
    step: Callable[..., PyTree]
    """An iteration that converges to the solution, for `Unrolled`."""
    w0: PyTree
    theta: PyTree
    aux: tuple
    step_size: float
    """Of the gradient step, or fixed-point step, that `step` takes."""
    kind: Kind
    """Of the constraint's Jacobian in w."""

    @property
    def methods(self) -> dict[str, AbstractMethod]:
        """All methods that take a constraint, as precise as they can be."""
        size = sum(leaf.size for leaf in jax.tree.leaves(self.w0))
        return {
            name: method.precise(size, self.step_size)
            for name, method in classes().items()
            if not method.needs_least_squares
        }

    @property
    def exact(self) -> frozenset[str]:
        """Names of those that give the gradient; the others can't, by what they assume."""
        by_theorem = (name for name, method in self.methods.items() if self.kind in method.solves)
        return frozenset({"unrolled", *by_theorem})

    def check(self, **settings: Any) -> GradCheck:
        """`gradcheck` on this problem; settings go to it."""
        settings = {"methods": self.methods, "unroll": self.step, **settings}
        return gradcheck(
            self.outer_loss,
            self.constraint,
            self.solver,
            self.w0,
            self.theta,
            *self.aux,
            **settings,
        )


def names() -> tuple[str, ...]:
    """What `get` knows."""
    return tuple(_PROBLEMS)


def get(name: str, seed: int = 0) -> Problem:
    """The problem called `name`, its data drawn from `seed`. Raises `InputError` if unknown."""
    make = _PROBLEMS[closest("problem", name, _PROBLEMS)]
    return make(jax.random.key(seed))


def ridge(key: Array) -> Problem:
    """One penalty exp(θ_i) for each weight of a linear regression, chosen on held-out data."""
    keys = jax.random.split(key, 4)
    weights = jax.random.normal(keys[0], (6,))
    train = jax.random.normal(keys[1], (30, 6))
    held_out = jax.random.normal(keys[2], (30, 6))
    noise = jax.random.normal(keys[3], (2, 30))
    aux = (train, train @ weights + noise[0], held_out, held_out @ weights + noise[1])

    def inner_loss(w, theta, x, y, *_):
        return jnp.mean((x @ w - y) ** 2) / 2 + jnp.sum(jnp.exp(theta) * w**2) / 2

    def solver(w0, theta, x, y, *_):
        del w0
        return jnp.linalg.solve(x.T @ x / len(y) + jnp.diag(jnp.exp(theta)), x.T @ y / len(y))

    return Problem(
        name="ridge",
        summary="ridge regression, one penalty a weight: symmetric definite",
        outer_loss=lambda w, theta, _x, _y, x, y: jnp.mean((x @ w - y) ** 2),
        constraint=jax.grad(inner_loss),
        solver=solver,
        step=_descent(inner_loss, 0.25),
        w0=jnp.zeros(6),
        theta=jnp.linspace(-1.0, 0.5, 6),
        aux=aux,
        step_size=0.25,
        kind="symmetric",
    )


def soft_q(key: Array) -> Problem:
    """A random soft Bellman fixed point, eq. (2) and (3), with the objective of eq. (6)."""
    states, actions, discount, temperature = 4, 2, 0.9, 0.1
    keys = jax.random.split(key, 4)

    def model(key_logits, key_reward):
        return {
            "logits": jax.random.normal(key_logits, (states, actions, states)),
            "reward": jax.random.normal(key_reward, (states, actions)),
        }

    def bellman(q, theta, *_):
        value = temperature * jax.nn.logsumexp(q / temperature, axis=1)
        return theta["reward"] + discount * jax.nn.softmax(theta["logits"]) @ value

    return Problem(
        name="soft-q",
        summary="random soft Bellman fixed point: I − γP, not symmetric",
        outer_loss=lambda q, theta, true: jnp.sum((q - bellman(q, true)) ** 2),
        constraint=from_fixed_point(bellman),
        solver=_fixed_point(bellman),
        step=bellman,
        w0=jnp.zeros((states, actions)),
        theta=model(keys[0], keys[1]),
        aux=(model(keys[2], keys[3]),),
        step_size=1.0,
        kind="general",
    )


def network(key: Array) -> Problem:
    """A tanh network fitted to model-made Bellman targets, eq. (10) to (12).

    A pull of 0.3 towards the starting weights makes the minimum a definite one.
    """
    hidden, batch, discount, pull = 5, 32, 0.9, 0.3
    keys = jax.random.split(key, 5)

    def weights(key):
        first, second = jax.random.split(key)
        return {
            "in": jax.random.normal(first, (2, hidden)),
            "bias": jnp.zeros(hidden),
            "out": jax.random.normal(second, (hidden,)),
        }

    w0 = weights(keys[0])

    def q(w, x):
        return jnp.tanh(x @ w["in"] + w["bias"]) @ w["out"]

    def bellman_error(w, theta, target_w, x, *_):
        target = x @ theta["reward"] + discount * q(target_w, x @ theta["dynamics"])
        return jnp.mean((q(w, x) - target) ** 2)

    def inner_loss(w, theta, *aux):
        offset = ravel_pytree(subtract(w, w0))[0]
        return bellman_error(w, theta, *aux) + pull / 2 * jnp.sum(offset**2)

    def solver(w0, theta, *aux):
        return _newton(inner_loss, _descent(inner_loss, 0.2), w0, theta, *aux)

    true = {"reward": jnp.array([1.0, -0.5]), "dynamics": jnp.array([[0.9, 0.2], [-0.2, 0.9]])}
    return Problem(
        name="network",
        summary="tanh network at the minimum of a Bellman error: a Hessian",
        outer_loss=lambda w, theta, *aux: bellman_error(w, aux[-1], *aux),
        constraint=jax.grad(inner_loss),
        solver=solver,
        step=_descent(inner_loss, 0.2),
        w0=w0,
        theta={
            "reward": jax.random.normal(keys[1], (2,)),
            "dynamics": jax.random.normal(keys[2], (2, 2)) / 2,
        },
        aux=(weights(keys[3]), jax.random.normal(keys[4], (batch, 2)), true),
        step_size=0.2,
        kind="symmetric",
    )


def singular(key: Array) -> Problem:
    """Least squares with more weights than data: w* is the solution of minimum norm."""
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (4, 7)) / 2
    aux = (x, jax.random.normal(keys[1], (4, 3)), jax.random.normal(keys[2], (7,)))

    def inner_loss(w, theta, x, maker, _):
        return jnp.sum((x @ w - maker @ theta) ** 2) / 2

    return Problem(
        name="singular",
        summary="under-determined least squares: singular, minimum norm",
        outer_loss=lambda w, theta, _x, _maker, goal: jnp.sum((w - goal) ** 2),
        constraint=jax.grad(inner_loss),
        solver=lambda w0, theta, x, maker, _: jnp.linalg.pinv(x) @ (maker @ theta),
        step=_descent(inner_loss, 0.15),
        w0=jnp.zeros(7),
        theta=jnp.array([1.0, -0.5, 0.3]),
        aux=aux,
        step_size=0.15,
        kind="singular",  # with a part of g outside its range, which CG and GMRES can't bear
    )


_PROBLEMS = {"ridge": ridge, "soft-q": soft_q, "network": network, "singular": singular}


def _descent(loss: Callable[..., Array], rate: float) -> Callable[..., PyTree]:
    def step(w, theta, *aux):
        slope = jax.grad(loss)(w, theta, *aux)
        return jax.tree.map(lambda wi, gi: wi - rate * gi, w, slope)

    return step


def _fixed_point(operator: Callable[..., Array]) -> Callable[..., Array]:
    """Iterates until w changes by no more than rounding."""

    def solver(w0, theta, *aux):
        def going(state):
            count, before, w = state
            close = 4 * jnp.finfo(w.dtype).eps * jnp.maximum(1, jnp.max(jnp.abs(w)))
            return (count < 5000) & (jnp.max(jnp.abs(w - before)) > close)

        def body(state):
            count, _, w = state
            return count + 1, w, operator(w, theta, *aux)

        return jax.lax.while_loop(going, body, (0, w0 + 1, w0))[2]

    return solver


def _newton(loss, step, w0, theta, *aux):
    """2 000 descent steps to come near a minimum, then Newton's method to polish it."""
    near = jax.lax.fori_loop(0, 2000, lambda _, w: step(w, theta, *aux), w0)
    flat, unravel = ravel_pytree(near)

    def on_vector(x):
        return loss(unravel(x), theta, *aux)

    def newton(_, x):
        return x - jnp.linalg.solve(jax.hessian(on_vector)(x), jax.grad(on_vector)(x))

    return unravel(jax.lax.fori_loop(0, 8, newton, flat))
