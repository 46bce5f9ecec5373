"""Projected descent with any optax optimiser: every bound, seed and noise level is a lane."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from omd.errors import InputError
from omd.implicit import Status
from omd.tabular.design.formulation import Design
from omd.tabular.design.parallel import Lanes, cheaply, check_lanes, lane_jit, map_lanes
from omd.tabular.design.projection import Model, Projection, ball

ADAM = optax.adam(0.01)
"""The authors' optimiser; one object, since programs are compiled anew for another."""


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


def uniform_starts(
    seeds: Int[Array, " L"], states: int, actions: int
) -> tuple[Model, Float[Array, "L S A"]]:
    """(θ, Q) of every seed with entries uniform in [0, 1), drawn as the authors' program does."""
    pairs = states * actions
    draw = partial(jax.random.uniform, shape=(pairs * states,))

    def draws(seed):
        return jax.vmap(draw)(jax.random.split(jax.random.key(seed), 3))

    numbers = jax.jit(jax.vmap(draws), compiler_options=cheaply(0))(seeds)
    # a draw of fewer numbers is the beginning of a longer one, so one size serves all three
    q, logits, reward = np.moveaxis(np.asarray(numbers), 1, 0)
    theta = Model(
        jnp.asarray(logits.reshape(-1, actions, states, states).swapaxes(1, 2)),
        jnp.asarray(reward[:, :pairs].reshape(-1, states, actions)),
    )
    return theta, jnp.asarray(q[:, :pairs].reshape(-1, states, actions))


def descend(
    design: Design,
    lanes: Lanes,
    *,
    projection: Projection = ball,
    optimizer: optax.GradientTransformation = ADAM,
    max_steps: int = 10_000,
    tolerance: float = 1e-10,
) -> Designed:
    """Projected gradient descent of every lane, in one compiled program.

    The start is projected by the first update, not before. A lane stops, CONVERGED, where an
    update changes no entry of θ and of Q by more than tolerance · (1 + the largest entry of its
    array), and waits for the others; NON_FINITE where a number overflows, MAX_STEPS else. All
    leaves of the result carry the lane axis. Another object as `optimizer` or `projection` is
    another program, even where it does the same.

    Raises `InputError` for a norm bound or noise level below zero, or without any step.
    """
    check_lanes(lanes)
    if max_steps < 1:
        raise InputError(f"max_steps must be at least 1, but is {max_steps}; the paper has 10000.")
    draws = _draws(lanes, max_steps)
    return _descend(design, lanes, draws, projection, optimizer, max_steps, tolerance)


def _draws(lanes: Lanes, max_steps: int) -> tuple[Array, Array] | None:
    """([seeds, max_steps + 1, S, A] standard normal, each lane's row in it).

    Drawn before the loop, where they cost a fraction, and once a seed: lanes of one seed share
    their draws whatever their noise level.
    """
    if lanes.noise is None:
        return None
    seeds, row = np.unique(np.asarray(lanes.seed), return_inverse=True)

    def draw(seed):
        shape = (max_steps + 1, *lanes.q.shape[1:])
        return jax.random.normal(jax.random.key(seed), shape, lanes.q.dtype)

    draws = jax.jit(jax.vmap(draw), compiler_options=cheaply(1))(seeds)
    return draws, jnp.asarray(row)


@lane_jit
def _descend(design, lanes, draws, projection, optimizer, max_steps, tolerance) -> Designed:
    run = partial(
        _lane, projection=projection, optimizer=optimizer, max_steps=max_steps, tolerance=tolerance
    )
    table, row = (None, None) if draws is None else draws
    return map_lanes(run, (design, table), (lanes, row))


def _lane(shared, lane, *, projection, optimizer, max_steps, tolerance) -> Designed:
    (design, draws), (lane, row) = shared, lane
    if lane.hypergradient is not None:
        design = dataclasses.replace(design, hypergradient=lane.hypergradient)

    def noise(step):
        return None if lane.noise is None else lane.noise * draws[row, step]

    def evaluate(theta, q, step):
        (loss, q), slope = jax.value_and_grad(design.loss, has_aux=True)(theta, q, noise(step))
        return loss, slope, q

    end = first_order(
        evaluate,
        lane.theta,
        lane.q,
        optimizer=optimizer,
        max_steps=max_steps,
        tolerance=tolerance,
        project=lambda theta: projection(theta, lane.norm_bound),
    )
    theta, q = end.variables, end.memory
    if not design.objective.of_solution:
        q = design.solution(theta, q)
    last = noise(end.step)
    noisy = q if last is None else q + last
    return Designed(
        theta,
        q,
        design.expected_return(q),
        design.expected_return(noisy),
        end.loss,
        end.step,
        end.status,
    )


class Progress(NamedTuple):
    """Where an iteration stands: the loss, the slope and what was remembered at `variables`."""

    variables: PyTree
    memory: PyTree
    loss: Float[Array, ""]
    slope: PyTree
    optimizer: PyTree
    step: Int[Array, ""]
    settled: Bool[Array, ""]
    finite: Bool[Array, ""]

    @property
    def status(self) -> Int[Array, ""]:
        """An `implicit.Status`."""
        status = jnp.where(self.settled, Status.CONVERGED, Status.MAX_STEPS)
        return jnp.where(self.finite, status, Status.NON_FINITE)


def first_order(
    evaluate: Callable[[PyTree, PyTree, Int[Array, ""]], tuple[Array, PyTree, PyTree]],
    variables: PyTree,
    memory: PyTree,
    *,
    optimizer: optax.GradientTransformation,
    project: Callable[[PyTree], PyTree],
    max_steps: int,
    tolerance: float,
) -> Progress:
    """Follows a vector field with an optax optimiser until neither variables nor memory move.

    `evaluate(variables, memory, step)` gives (loss, slope, memory), the slope like the variables
    and the memory for the next call. One lane; to be vmapped.
    """

    def update(state):
        updates, optimizer_state = optimizer.update(state.slope, state.optimizer, state.variables)
        moved = project(optax.apply_updates(state.variables, updates)), optimizer_state
        # the first pass only evaluates: one copy of the loss in the program instead of two
        keep = partial(jnp.where, state.step < 0)
        return jax.tree.map(keep, (state.variables, state.optimizer), moved)

    def body(state):
        variables, optimizer_state = update(state)
        step = state.step + 1
        loss, slope, memory = evaluate(variables, state.memory, step)
        new, old = (variables, memory), (state.variables, state.memory)
        settled = _unchanged(new, old, tolerance) & (step > 0)
        finite = jnp.isfinite(loss) & _all_finite(new)
        return Progress(variables, memory, loss, slope, optimizer_state, step, settled, finite)

    def going(state):
        return ~state.settled & state.finite & (state.step < max_steps)

    infinity = jnp.asarray(jnp.inf, jax.tree.leaves(variables)[0].dtype)
    start = Progress(
        variables,
        memory,
        infinity,
        jax.tree.map(jnp.zeros_like, variables),
        optimizer.init(variables),
        jnp.asarray(-1),
        jnp.asarray(False),
        jnp.asarray(True),
    )
    return jax.lax.while_loop(going, body, start)


def _unchanged(new: PyTree, old: PyTree, tolerance: float) -> Bool[Array, ""]:
    def leaf(x, y):
        return jnp.max(jnp.abs(x - y)) <= tolerance * (1 + jnp.max(jnp.abs(x)))

    return jnp.stack(jax.tree.leaves(jax.tree.map(leaf, new, old))).all()


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()
