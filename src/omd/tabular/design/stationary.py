"""Stationary models on the ball of section 4.2, with a certificate of stationarity for each.

Spectral projected gradient: Barzilai–Borwein step lengths and a nonmonotone line search along
the projected direction (Birgin, Martínez, Raydan 2000, SPG2). Steps, norm and projection are
Euclidean in the same coordinates, so what it stops at is stationary on the ball; Adam's steps
are scaled coordinate by coordinate, and with a projection after each they stop elsewhere.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from omd.errors import InputError
from omd.implicit import Status
from omd.tabular.checks import check_count
from omd.tabular.design.formulation import Design
from omd.tabular.design.parallel import Lanes, check_lanes, lane_jit, map_lanes
from omd.tabular.design.projection import Model, ball

MEMORY = 10
"""Losses that the nonmonotone line search looks back on."""
SUFFICIENT_DECREASE = 1e-4
"""Armijo's constant."""
FARTHEST = 10.0
"""Norm of the farthest start where no bound says it; the paper's MDP has 4.8."""
LENGTHS = (1e-10, 1e10)
"""Least and greatest Barzilai–Borwein length."""


class Stationary(NamedTuple):
    """The best of several starts in each lane; every leaf has the leading lane axis L."""

    theta: Model
    q: Float[Array, "L S A"]
    """φ(θ)."""
    expected_return: Float[Array, " L"]
    """J of q's softmax policy in the true MDP."""
    loss: Float[Array, " L"]
    residual: Float[Array, " L"]
    """‖Π(θ − ∇f(θ)) − θ‖ with Π the projection on the ball: zero exactly where stationary."""
    steps: Int[Array, " L"]
    """Evaluations of loss and gradient, by the best start."""
    status: Int[Array, " L"]
    """An `implicit.Status`: CONVERGED where residual ≤ tolerance, MAX_STEPS or NON_FINITE."""
    starts_converged: Int[Array, " L"]
    starts_agreeing: Int[Array, " L"]
    """Converged starts whose loss is within 1e-6 of the best."""


def spread_starts(
    seeds: np.ndarray, norm_bounds: np.ndarray, starts: int, states: int, actions: int
) -> tuple[Model, np.ndarray]:
    """(θ [L, starts, ...], Q = 0 [L, starts, S, A]): random directions, norms from 0.01 to κ.

    To `FARTHEST` where the bound is infinite. Norms are spaced geometrically. Directions depend on
    the lane's seed alone. The small starts matter: with a policy near the uniform one no gradient
    has vanished yet. Raises `InputError` for a bound or a seed below zero, no start, state or
    action, and where there is not one seed for each bound.
    """
    for name, count in (("starts", starts), ("states", states), ("actions", actions)):
        check_count(name, count)
    for seed in np.asarray(seeds).tolist():
        check_count("a seed", seed, 0)
    if np.shape(seeds) != np.shape(norm_bounds):
        raise InputError(
            f"seeds and norm_bounds have shapes {np.shape(seeds)} and {np.shape(norm_bounds)}; "
            "give one of each for every lane."
        )
    wrong = ~(np.asarray(norm_bounds) >= 0)
    if wrong.any():
        raise InputError(
            f"norm_bounds must be 0 or more, but one is {np.asarray(norm_bounds)[wrong][0]}."
        )
    size = states * actions * (states + 1)
    draws = np.stack([np.random.default_rng(seed).normal(size=(starts, size)) for seed in seeds])
    ends = np.where(np.isinf(norm_bounds), FARTHEST, norm_bounds)
    radii = np.stack([np.geomspace(0.01, max(end, 0.01), starts) for end in ends])
    radii = np.minimum(radii, ends[:, None])
    points = draws / np.linalg.norm(draws, axis=-1, keepdims=True) * radii[..., None]
    logits, reward = np.split(points, [states * actions * states], axis=-1)
    shape = (len(seeds), starts, states, actions)
    theta = Model(jnp.asarray(logits.reshape(*shape, states)), jnp.asarray(reward.reshape(shape)))
    return theta, np.zeros(shape)


def find_stationary(
    design: Design,
    lanes: Lanes,
    *,
    tolerance: float = 1e-8,
    max_steps: int = 3000,
    max_step_length: float = np.inf,
) -> Stationary:
    """Stationary points of design's loss on each lane's ball, the best of its starts.

    θ and q in `lanes` carry an axis of starts after the lane axis. The best is the lowest loss
    among the converged starts; where none converged, the lowest loss, with its status. A step of
    θ is no longer than `max_step_length`: where the loss has flat regions beside steep ones, as J
    at low temperature, a long first step ends in a bad region, where the gradient vanishes.

    Raises `InputError` for a norm bound below zero, infinite bounds excepted, for noise (a noisy
    loss has no stationary point) or without any step.
    """
    check_lanes(lanes)
    if lanes.noise is not None or lanes.hypergradient is not None:
        raise InputError(
            "a stationary point needs exact solutions and gradients, but the lanes carry noise or "
            "a hypergradient of their own; leave both out, or use descend."
        )
    if max_steps < 1 or not tolerance > 0 or not max_step_length > 0:
        raise InputError(
            f"max_steps, tolerance and max_step_length must be above 0, but are {max_steps}, "
            f"{tolerance} and {max_step_length}."
        )
    return _find(design, lanes, tolerance, max_steps, max_step_length)


@lane_jit
def _find(design, lanes, tolerance, max_steps, max_step_length) -> Stationary:
    run = partial(_lane, tolerance=tolerance, max_steps=max_steps, max_step_length=max_step_length)
    return map_lanes(run, design, lanes)


def _lane(design, lane, *, tolerance, max_steps, max_step_length) -> Stationary:
    run = partial(
        _start,
        design,
        norm_bound=lane.norm_bound,
        tolerance=tolerance,
        max_steps=max_steps,
        max_step_length=max_step_length,
    )
    ends = jax.vmap(run)(lane.theta, lane.q)
    converged = ends.residual <= tolerance
    losses = jnp.where(jnp.isnan(ends.loss), jnp.inf, ends.loss)
    best = jnp.argmin(jnp.where(converged | ~converged.any(), losses, jnp.inf))
    end = jax.tree.map(lambda x: x[best], ends)
    status = jnp.where(converged[best], Status.CONVERGED, Status.MAX_STEPS)
    q = end.q if design.objective.of_solution else design.solution(end.theta, end.q)
    return Stationary(
        end.theta,
        q,
        design.expected_return(q),
        end.loss,
        end.residual,
        end.step,
        jnp.where(jnp.isfinite(end.loss), status, Status.NON_FINITE),
        converged.sum(),
        jnp.sum(converged & (ends.loss <= end.loss + 1e-6)),
    )


class _State(NamedTuple):
    x: Float[Array, " n"]
    """θ as a vector."""
    q: Float[Array, "S A"]
    loss: Float[Array, ""]
    slope: Float[Array, " n"]
    residual: Float[Array, ""]
    step: Int[Array, ""]
    length: Float[Array, ""]
    """Barzilai–Borwein length of the step along −slope, before the projection."""
    fraction: Float[Array, ""]
    """Of the projected direction, tried next: 1 after an accepted step, less after a refusal."""
    history: Float[Array, " memory"]


class _End(NamedTuple):
    theta: Model
    q: Float[Array, "S A"]
    loss: Float[Array, ""]
    residual: Float[Array, ""]
    step: Int[Array, ""]


def _start(design, theta, q0, *, norm_bound, tolerance, max_steps, max_step_length) -> _End:
    # one evaluation of loss and gradient a pass, accepted or refused, so that lanes whose line
    # searches differ in length stay busy
    point, unravel = ravel_pytree(theta)

    def project(x):
        return ravel_pytree(ball(unravel(x), norm_bound))[0]

    def evaluate(x, q):
        (loss, q), slope = jax.value_and_grad(design.loss, has_aux=True)(unravel(x), q)
        slope, _ = ravel_pytree(slope)
        return loss, slope, q, jnp.linalg.norm(project(x - slope) - x)

    def body(state):
        direction = project(state.x - state.length * state.slope) - state.x
        norm = jnp.linalg.norm(direction)
        direction = direction * jnp.minimum(1, max_step_length / jnp.where(norm > 0, norm, 1))
        slope_along = state.slope @ direction
        x = state.x + state.fraction * direction
        loss, slope, q, residual = evaluate(x, state.q)
        allowed = state.history.max() + SUFFICIENT_DECREASE * state.fraction * slope_along
        # the last digits of the loss are rounding, and must not end the search
        accepted = loss <= allowed + 4 * jnp.finfo(x.dtype).eps * jnp.abs(loss)
        history = jnp.roll(state.history, 1).at[0].set(loss)
        # the first pass evaluates the start itself (slope 0) and accepts it (history ∞)
        first = state.step == 0
        yes = _State(
            x,
            q,
            loss,
            slope,
            residual,
            state.step + 1,
            jnp.where(first, _first_length(residual), _length(x - state.x, slope - state.slope)),
            jnp.ones_like(loss),
            jnp.where(first, loss, history),
        )
        no = state._replace(step=state.step + 1, fraction=_shorter(state, loss, slope_along))
        return jax.tree.map(partial(jnp.where, accepted), yes, no)

    def going(state):
        return (state.residual > tolerance) & (state.step < max_steps)

    zero, infinity = jnp.zeros_like(norm_bound), jnp.full_like(norm_bound, jnp.inf)
    start = _State(
        project(point),
        q0,
        infinity,
        jnp.zeros_like(point),
        infinity,
        jnp.asarray(0),
        zero,
        zero,
        jnp.full_like(point, jnp.inf, shape=MEMORY),
    )
    end = jax.lax.while_loop(going, body, start)
    return _End(unravel(end.x), end.q, end.loss, end.residual, end.step)


def _first_length(residual: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.clip(1 / jnp.where(residual > 0, residual, 1), *LENGTHS)


def _length(moved: Float[Array, " n"], turned: Float[Array, " n"]) -> Float[Array, ""]:
    """s·s / s·y, Barzilai and Borwein's first formula; the longest where curvature is not > 0."""
    curvature = moved @ turned
    length = (moved @ moved) / jnp.where(curvature > 0, curvature, 1)
    return jnp.where(curvature > 0, jnp.clip(length, *LENGTHS), LENGTHS[1])


def _shorter(state, loss, slope_along):
    """The next fraction after a refusal: the minimum of a parabola, kept within [0.1, 0.5]."""
    fraction = state.fraction
    excess = loss - state.loss - fraction * slope_along
    minimum = -(fraction**2) * slope_along / (2 * jnp.where(excess > 0, excess, 1))
    kept = jnp.clip(minimum, 0.1 * fraction, 0.5 * fraction)
    return jnp.where(jnp.isfinite(loss) & (excess > 0), kept, 0.5 * fraction)
