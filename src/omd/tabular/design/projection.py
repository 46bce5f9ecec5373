"""Norm-bounded models: the ball of section 4.2, and what the published figures were drawn with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float


class Model(NamedTuple):
    """θ: a tabular model by its parameters, as section 4.2 has it.

    p_θ is a softmax over the last axis of `logits`; a `Design` may divide them by a temperature
    first. A row of logits may be shifted by a constant without changing p_θ, and of all shifts
    the centred row (mean zero) has the least norm, so a model on the ball does best to be centred.
    """

    logits: Float[Array, "*lanes S A S"]
    reward: Float[Array, "*lanes S A"]


Projection = Callable[[Model, Float[Array, ""]], Model]
"""(θ, κ) -> θ within the bound κ; applied after each step."""


def ball(theta: Model, norm_bound: Float[ArrayLike, ""]) -> Model:
    """θ · κ/‖θ‖ where ‖θ‖ > κ, with one Euclidean norm over logits and reward (section 4.2)."""
    # the radius is squared in there: 0 would give 0/0 at θ = 0, and infinity ∞/∞
    free = jnp.isinf(norm_bound)
    smallest = jnp.sqrt(jnp.finfo(theta.reward.dtype).tiny)
    radius = jnp.where(free, 1, jnp.maximum(norm_bound, smallest))
    bounded = optax.projections.projection_l2_ball(theta, radius)
    return jax.tree.map(lambda x, y: jnp.where(free, x, y), theta, bounded)


def reference(
    theta: Model, norm_bound: Float[ArrayLike, ""], *, temperature: float = 0.01
) -> Model:
    """The projection behind the published figures 2 and 3, which is not that of the text.

    For models of two states and two actions. Logits and reward are bounded each by itself, and
    each norm divides one half of the array by the logits' temperature, the reward's too: for
    logits that half is action 0, for the reward it is state 0. With (x₀, x₁) for the halves,
    n = √(‖x₀/temperature‖² + ‖x₁‖²), and x ← x · κ/n where n > κ. So at κ = 6 and temperature
    0.01 the reward of state 0 can't exceed 0.06.
    """
    logits, reward = theta
    return Model(
        _clip(logits, logits[:, 0] / temperature, logits[:, 1], norm_bound),
        _clip(reward, reward[0] / temperature, reward[1], norm_bound),
    )


def _clip(
    x: Float[Array, " *shape"],
    first: Float[Array, " *half"],
    second: Float[Array, " *half"],
    bound: Float[ArrayLike, ""],
) -> Float[Array, " *shape"]:
    norm = jnp.sqrt(jnp.sum(first**2) + jnp.sum(second**2))
    return jnp.where(norm > bound, x * (bound / jnp.where(norm > bound, norm, 1)), x)
