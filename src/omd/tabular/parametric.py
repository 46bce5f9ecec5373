"""Models with parameters: theta -> (transition, reward), to estimate or to design."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, PyTree

from omd.errors import InputError
from omd.tabular.checks import real_array
from omd.tabular.kernels import Numbers
from omd.tabular.mdp import MDP


class Parametrised(eqx.Module):
    """A family of MDPs: `model(theta)` is the MDP with build(theta) = (transition, reward).

    The discount, initial distribution, mask and ends are those of `MDP`. What `build` returns is
    checked as there where theta is concrete, so that rows which don't sum to one are said with
    their state and action; under `jit` and `grad` only shapes are, so `check(theta)` before.
    """

    build: Callable[[PyTree], tuple[Any, Any]]
    discount: Any = eqx.field(converter=lambda discount: _one_as_number(discount))
    initial: Any = None
    mask: Any = None
    ends: Any = None
    """Where an undiscounted problem is over, whatever theta is; `build` may trace its rows then."""

    def __call__(self, theta: PyTree) -> MDP:
        made = self.build(theta)
        if not isinstance(made, tuple) or len(made) != 2:
            raise InputError(
                "build(theta) must return (transition, reward), but returned "
                f"{type(made).__name__}; return both."
            )
        return MDP(*made, self.discount, self.initial, mask=self.mask, ends=self.ends)

    def check(self, theta: PyTree) -> MDP:
        """The MDP of a concrete theta. Raises `InputError` where it is none."""
        if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(theta)):
            raise InputError("check needs a concrete theta, but this one is traced.")
        return self(theta)


def _one_as_number(discount: Any) -> Any:
    """A number for a discount of 1, which is seen under `jit` as no array is."""
    known = not isinstance(discount, jax.core.Tracer) and np.ndim(discount) == 0
    return 1.0 if known and np.asarray(discount) == 1 else discount


class _Linear(eqx.Module):
    transition: Any
    features: Float[ArrayLike, "S A K"]

    def __call__(self, theta: Numbers) -> tuple[Any, Any]:
        count = np.shape(self.features)[-1]
        if np.shape(real_array("theta", theta)) != (count,):
            raise InputError(
                f"theta has shape {np.shape(theta)} where there are {count} features; give one "
                "number for each."
            )
        return self.transition, jnp.asarray(self.features) @ jnp.asarray(theta)


def linear_rewards(mdp: MDP, features: Numbers) -> Parametrised:
    """The family r(s, a) = φ(s, a)·θ over the transitions of an MDP; features φ[S, A, K].

    Raises `InputError` for features of another shape or that are not finite.
    """
    table = np.asarray(real_array("features", features))
    if table.ndim != 3 or not table.size or table.shape[:2] != mdp.reward.shape:
        raise InputError(
            f"features have shape {table.shape} where the MDP asks for [S, A, K] = "
            f"({mdp.num_states}, {mdp.num_actions}, K); give K numbers for each state and action."
        )
    if not np.isfinite(table).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(table))[0])
        raise InputError(f"features{at} is {table[at]}; every feature must be finite.")
    return Parametrised(
        _Linear(mdp.transition, jnp.asarray(table, mdp.reward.dtype)),
        mdp.discount,
        mdp.initial,
        mdp.mask,
        mdp.ends,
    )
