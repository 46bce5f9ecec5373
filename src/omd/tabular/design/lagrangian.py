"""Model design as a saddle point, the route of Bacon et al. 2019 that section 8 names.

The problem is that of `omd.tabular.design`, eq. (2) and (6), but Q stays a variable of its own:

    min over (Q, θ), max over λ:  objective(Q, θ) + λ·h(Q, θ) + penalty/2 · ‖h(Q, θ)‖²

with one multiplier λ(s, a) for every state and action. No inner problem is solved and no Jacobian
inverted; until the end Q is not the fixed point of B^θ.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from omd.errors import InputError
from omd.tabular.design.descent import ADAM, Progress, first_order
from omd.tabular.design.formulation import Design
from omd.tabular.design.parallel import Lanes, check_lanes, lane_jit, map_lanes
from omd.tabular.design.projection import Model, Projection, ball


class Variables(NamedTuple):
    """What the saddle point is sought in."""

    primal: PyTree
    """What the loss is minimised over, such as (θ, Q)."""
    multiplier: PyTree
    """λ, one for each constraint."""


class Saddle(NamedTuple):
    """What a run ended with; leaves carry the lane axis."""

    theta: Model
    q: Float[Array, "S A"]
    multiplier: Float[Array, "S A"]
    loss: Float[Array, ""]
    """The objective at (Q, θ), without multipliers and penalty."""
    violation: Float[Array, ""]
    """‖h(Q, θ)‖∞: zero where Q is the model's fixed point."""
    expected_return: Float[Array, ""]
    """J of Q's softmax policy in the true MDP."""
    model_return: Float[Array, ""]
    """J of the policy that planning in the model gives, φ(θ)'s. The same number at a solution."""
    steps: Int[Array, ""]
    status: Int[Array, ""]
    """An `implicit.Status`: CONVERGED, MAX_STEPS or NON_FINITE."""


def find_saddle(
    design: Design,
    lanes: Lanes,
    *,
    penalty: float = 10.0,
    multiplier_rate: float = 0.1,
    optimizer: optax.GradientTransformation = ADAM,
    projection: Projection = ball,
    max_steps: int = 10_000,
    tolerance: float = 1e-6,
) -> Saddle:
    """Simultaneous descent in (Q, θ) and ascent in λ, in one compiled program.

    λ starts at zero and moves by multiplier_rate · h. A lane stops, CONVERGED, where an update
    changes no entry of θ, Q and λ by more than tolerance · (1 + the largest entry of its array),
    which bounds ‖h‖∞ through λ. Without a penalty the iteration may circle about the saddle point.

    Raises `InputError` for a negative norm bound, noise, or numbers that allow no step.
    """
    check_lanes(lanes)
    if lanes.noise is not None or lanes.hypergradient is not None:
        raise InputError(
            "the Lagrangian route has no inner solution to add noise to and no hypergradient, but "
            "the lanes carry one; leave both out, or use descend."
        )
    if max_steps < 1 or not multiplier_rate > 0 or not penalty >= 0:
        raise InputError(
            "max_steps and multiplier_rate must be above 0 and penalty not below, but they are "
            f"{max_steps}, {multiplier_rate} and {penalty}."
        )
    return _find(
        design, lanes, penalty, multiplier_rate, optimizer, projection, max_steps, tolerance
    )


def saddle_point(
    parts: Callable[[PyTree], tuple[Float[Array, ""], Array]],
    primal: PyTree,
    multiplier: Array,
    *,
    penalty: float,
    multiplier_rate: float,
    optimizer: optax.GradientTransformation,
    max_steps: int,
    tolerance: float,
    project: Callable[[PyTree], PyTree] = lambda primal: primal,
) -> Progress:
    """Descent in x and ascent in λ on loss + λ·h + penalty/2 · ‖h‖² from given starts.

    `parts(x)` gives (loss, h). For use under `jit`; ends as `first_order` does, with `Variables`
    and the last h as its memory.
    """
    both = optax.partition({"primal": optimizer, "dual": optax.sgd(multiplier_rate)}, _labels)

    def lagrangian(variables):
        loss, h = parts(variables.primal)
        added = jnp.sum(variables.multiplier * h) + penalty / 2 * jnp.sum(h**2)
        return loss + added, (loss, h)

    def evaluate(variables, memory, step):
        (_, (loss, h)), slope = jax.value_and_grad(lagrangian, has_aux=True)(variables)
        return loss, slope._replace(multiplier=-h), h

    return first_order(
        evaluate,
        Variables(primal, multiplier),
        jnp.zeros_like(multiplier),
        optimizer=both,
        project=lambda variables: variables._replace(primal=project(variables.primal)),
        max_steps=max_steps,
        tolerance=tolerance,
    )


def _labels(variables: Variables) -> PyTree:
    labels = jax.tree.map(lambda _: "primal", variables)
    return labels._replace(multiplier="dual")


@lane_jit
def _find(
    design, lanes, penalty, multiplier_rate, optimizer, projection, max_steps, tolerance
) -> Saddle:
    run = partial(
        _lane,
        penalty=penalty,
        multiplier_rate=multiplier_rate,
        optimizer=optimizer,
        projection=projection,
        max_steps=max_steps,
        tolerance=tolerance,
    )
    return map_lanes(run, design, lanes)


def _lane(
    design, lane, *, penalty, multiplier_rate, optimizer, projection, max_steps, tolerance
) -> Saddle:
    def parts(primal):
        theta, q = primal
        return design.objective.loss(q, theta, design), design.constraint(q, theta, design)

    def project(primal):
        theta, q = primal
        return projection(theta, lane.norm_bound), q

    end = saddle_point(
        parts,
        (lane.theta, lane.q),
        jnp.zeros_like(lane.q),
        penalty=penalty,
        multiplier_rate=multiplier_rate,
        optimizer=optimizer,
        project=project,
        max_steps=max_steps,
        tolerance=tolerance,
    )
    (theta, q), multiplier = end.variables
    return Saddle(
        theta,
        q,
        multiplier,
        end.loss,
        jnp.abs(end.memory).max(),
        design.expected_return(q),
        design.expected_return(design.solution(theta, q)),
        end.step,
        end.status,
    )
