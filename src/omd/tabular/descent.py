"""Projected descent with any optax optimiser: every bound, seed and noise level is a lane."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from omd.implicit import Status
from omd.tabular.design import Design
from omd.tabular.lanes import Lanes, check_lanes, lane_jit, map_lanes
from omd.tabular.projection import Model, Projection, ball
from omd.types import InputError


class Designed(NamedTuple):
    """What a run ended with; leaves carry the lane axis where there are lanes."""

    theta: Model
    q: Float[Array, "S A"]
    """φ(θ) at the final θ, without noise."""
    expected_return: Float[Array, ""]
    """J of q's softmax policy in the true MDP."""
    noisy_return: Float[Array, ""]
    """J with the last draw of the noise on q; the same number where there is none."""
    loss: Float[Array, ""]
    """The objective at the final θ, of the noisy solution where there is noise."""
    steps: Int[Array, ""]
    """Updates of θ."""
    status: Int[Array, ""]
    """An `implicit.Status`: CONVERGED, MAX_STEPS or NON_FINITE."""


@partial(jax.jit, static_argnums=(1, 2), compiler_options={"xla_backend_optimization_level": 0})
@partial(jax.vmap, in_axes=(0, None, None))
def uniform_starts(
    seeds: Int[Array, " L"], states: int, actions: int
) -> tuple[Model, Float[Array, "L S A"]]:
    """(θ, Q) of every seed with entries uniform in [0, 1), drawn as the authors' program does."""
    q, logits, reward = jax.random.split(jax.random.key(seeds), 3)
    theta = Model(
        jax.random.uniform(logits, (actions, states, states)).swapaxes(0, 1),
        jax.random.uniform(reward, (states, actions)),
    )
    return theta, jax.random.uniform(q, (states, actions))


def descend(
    design: Design,
    lanes: Lanes,
    *,
    projection: Projection = ball,
    optimizer: optax.GradientTransformation | None = None,
    max_steps: int = 10_000,
    tolerance: float = 1e-10,
) -> Designed:
    """Projected gradient descent of every lane in one compiled program; optax.adam(0.01) if None.

    The start is projected by the first update, not before. A lane stops, CONVERGED, where an
    update changes no entry of θ and of Q by more than tolerance · (1 + the largest entry of its
    array), and waits for the others; NON_FINITE where a number overflows, MAX_STEPS else. All
    leaves of the result carry the lane axis.

    Raises `InputError` for a norm bound or noise level below zero, or without any step.
    """
    check_lanes(lanes)
    if max_steps < 1:
        raise InputError(f"max_steps must be at least 1, but is {max_steps}; the paper has 10000.")
    optimizer = optax.adam(0.01) if optimizer is None else optimizer
    return _descend(design, lanes, projection, optimizer, max_steps, tolerance)


@lane_jit
def _descend(design, lanes, projection, optimizer, max_steps, tolerance) -> Designed:
    run = partial(
        _lane, projection=projection, optimizer=optimizer, max_steps=max_steps, tolerance=tolerance
    )
    return map_lanes(run, design, lanes)


class _State(NamedTuple):
    theta: Model
    optimizer: PyTree
    slope: Model
    q: Float[Array, "S A"]
    noise: Float[Array, "S A"] | None
    loss: Float[Array, ""]
    step: Int[Array, ""]
    settled: Bool[Array, ""]
    finite: Bool[Array, ""]


def _lane(design, lane, *, projection, optimizer, max_steps, tolerance) -> Designed:
    if lane.hypergradient is not None:
        design = eqx.tree_at(lambda d: d.hypergradient, design, lane.hypergradient)
    gradient = jax.value_and_grad(design.loss, has_aux=True)

    def update(state):
        updates, memory = optimizer.update(state.slope, state.optimizer, state.theta)
        theta = projection(optax.apply_updates(state.theta, updates), lane.norm_bound)
        # the first pass only evaluates: one copy of the loss in the program instead of two
        keep = partial(jnp.where, state.step < 0)
        return jax.tree.map(keep, (state.theta, state.optimizer), (theta, memory))

    def body(state):
        theta, memory = update(state)
        step = state.step + 1
        noise = _draw(lane, step)
        (loss, q), slope = gradient(theta, state.q, noise)
        settled = _unchanged((theta, q), (state.theta, state.q), tolerance) & (step > 0)
        finite = jnp.isfinite(loss) & _all_finite((theta, q))
        return _State(theta, memory, slope, q, noise, loss, step, settled, finite)

    def going(state):
        return ~state.settled & state.finite & (state.step < max_steps)

    start = _State(
        lane.theta, optimizer.init(lane.theta), jax.tree.map(jnp.zeros_like, lane.theta), lane.q,
        None if lane.noise is None else jnp.zeros_like(lane.q),
        jnp.full_like(lane.norm_bound, jnp.inf), jnp.asarray(-1), jnp.asarray(False),
        jnp.asarray(True),
    )  # fmt: skip
    end = jax.lax.while_loop(going, body, start)
    q = end.q if design.objective.of_solution else design.solution(end.theta, end.q)
    noisy = q if end.noise is None else q + end.noise
    status = jnp.where(end.settled, Status.CONVERGED, Status.MAX_STEPS)
    return Designed(
        end.theta, q, design.expected_return(q), design.expected_return(noisy), end.loss, end.step,
        jnp.where(end.finite, status, Status.NON_FINITE),
    )  # fmt: skip


def _draw(lane: Lanes, step) -> Float[Array, "S A"] | None:
    if lane.noise is None:
        return None
    key = jax.random.fold_in(jax.random.key(lane.seed), step)
    return lane.noise * jax.random.normal(key, lane.q.shape, lane.q.dtype)


def _unchanged(new: PyTree, old: PyTree, tolerance: float) -> Bool[Array, ""]:
    def leaf(x, y):
        return jnp.max(jnp.abs(x - y)) <= tolerance * (1 + jnp.max(jnp.abs(x)))

    return jnp.stack(jax.tree.leaves(jax.tree.map(leaf, new, old))).all()


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()
