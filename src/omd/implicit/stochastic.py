"""Bi-level problems whose losses are means over data: hypergradients from minibatches.

Losses are inner_loss(w, θ, batch) and outer_loss(w, θ, batch), scalars. A product of means is not
the mean of products, so each factor of eq. (7) gets a minibatch of its own, or is followed over
time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Int, PyTree

from omd import parts
from omd.implicit.trees import as_arrays, axpy, scale, subtract
from omd.parts import setting

Loss = Callable[[PyTree, PyTree, PyTree], Array]
"""(w, θ, batch) -> scalar."""


def stochastic_neumann(
    outer_loss: Loss,
    inner_loss: Loss,
    w: PyTree,
    theta: PyTree,
    *,
    outer_batch: PyTree,
    cross_batch: PyTree,
    batches: PyTree,
    step: ArrayLike,
) -> PyTree:
    """dJ/dθ by a Neumann series with a fresh minibatch for each factor, as in stocBiO.

    u = step · Σ_q Π_{j ≤ q} (I − step · ∂²g(batch j)/∂w²) ∂J/∂w with one factor for each entry of
    the leading axis of `batches`; ∂J/∂w and ∂J/∂θ are of `outer_batch`, ∂²g/∂θ∂w of `cross_batch`.
    Its mean over independent minibatches is the truncated series of the full losses.
    """
    w, theta = as_arrays((w, theta))
    g, direct = jax.grad(outer_loss, argnums=(0, 1))(w, theta, outer_batch)

    def factor(carry: tuple[PyTree, PyTree], batch: PyTree) -> tuple[tuple[PyTree, PyTree], None]:
        term, total = carry
        curved = _hessian_product(inner_loss, w, theta, batch, term)
        term = axpy(-jnp.asarray(step), curved, term)
        return (term, axpy(1.0, term, total)), None

    (_, total), _ = jax.lax.scan(factor, (g, g), batches)
    cross = _cross_product(inner_loss, w, theta, cross_batch, scale(step, total))
    return subtract(direct, cross)


class SobaState(NamedTuple):
    """What SOBA follows: the inner solution w, u of (∂²g/∂w²) u = ∂J/∂w, and θ."""

    w: PyTree
    u: PyTree
    theta: PyTree


class Soba(eqx.Module):
    """SOBA: w, u and θ each take a step at once, along directions that are linear in the data.

    w −= inner_step · ∂g/∂w, u −= inner_step · ((∂²g/∂w²) u − ∂J/∂w),
    θ −= outer_step · (∂J/∂θ − (∂²g/∂θ∂w) u), all at the old w, u, θ. Steps must shrink over time
    for convergence: they may be given at each update.
    """

    outer_loss: Loss
    inner_loss: Loss
    inner_step: ArrayLike = setting(help="of w and of u", low=0, open_low=True)
    outer_step: ArrayLike = setting(help="of θ", low=0, open_low=True)

    def __check_init__(self) -> None:
        parts.check(self, type(self).__name__)

    def init(self, w: PyTree, theta: PyTree) -> SobaState:
        """The state at a first guess of w and θ, with u = 0."""
        w, theta = as_arrays((w, theta))
        return SobaState(w, scale(0, w), theta)

    def update(
        self,
        state: SobaState,
        inner_batch: PyTree,
        outer_batch: PyTree,
        *,
        shrink: ArrayLike = 1.0,
    ) -> SobaState:
        """One step on one minibatch of each kind, both steps multiplied by `shrink`."""
        inner = _inner_terms(self.inner_loss, state, inner_batch)
        outer = _outer_terms(self.outer_loss, state, outer_batch)
        return _step(state, inner, outer, self.inner_step * shrink, self.outer_step * shrink)


class SabaState(NamedTuple):
    """SOBA's state, and for each minibatch the terms that it last gave, with their means."""

    w: PyTree
    u: PyTree
    theta: PyTree
    inner: PyTree
    outer: PyTree
    inner_mean: PyTree
    outer_mean: PyTree


class Saba(eqx.Module):
    """SABA: SOBA with SAGA's variance reduction, which converges at constant steps.

    Keeps the terms of every minibatch: two vectors like w and one like θ for each inner one, a
    vector like w and one like θ for each outer one.
    """

    outer_loss: Loss
    inner_loss: Loss
    inner_step: ArrayLike = setting(help="of w and of u", low=0, open_low=True)
    outer_step: ArrayLike = setting(help="of θ", low=0, open_low=True)

    def __check_init__(self) -> None:
        parts.check(self, type(self).__name__)

    def init(
        self, w: PyTree, theta: PyTree, inner_batches: PyTree, outer_batches: PyTree
    ) -> SabaState:
        """The state at a first guess, with u = 0; batches have a leading axis. One pass of data."""
        w, theta = as_arrays((w, theta))
        start = SobaState(w, scale(0, w), theta)
        inner = jax.lax.map(lambda b: _inner_terms(self.inner_loss, start, b), inner_batches)
        outer = jax.lax.map(lambda b: _outer_terms(self.outer_loss, start, b), outer_batches)
        means = (jax.tree.map(lambda x: jnp.mean(x, 0), table) for table in (inner, outer))
        return SabaState(*start, inner, outer, *means)

    def update(
        self,
        state: SabaState,
        inner_batches: PyTree,
        i: Int[Array, ""] | int,
        outer_batches: PyTree,
        j: Int[Array, ""] | int,
    ) -> SabaState:
        """One step on inner minibatch i and outer minibatch j."""
        at = SobaState(state.w, state.u, state.theta)
        new_inner = _inner_terms(self.inner_loss, at, _entry(inner_batches, i))
        new_outer = _outer_terms(self.outer_loss, at, _entry(outer_batches, j))
        inner, inner_table, inner_mean = _reduced(new_inner, state.inner, state.inner_mean, i)
        outer, outer_table, outer_mean = _reduced(new_outer, state.outer, state.outer_mean, j)
        at = _step(at, inner, outer, self.inner_step, self.outer_step)
        return SabaState(*at, inner_table, outer_table, inner_mean, outer_mean)


def _inner_terms(loss: Loss, at: SobaState, batch: PyTree) -> tuple[PyTree, PyTree, PyTree]:
    """∂g/∂w, (∂²g/∂w²) u, (∂²g/∂θ∂w) u."""
    slope = jax.grad(loss)(at.w, at.theta, batch)
    curved = _hessian_product(loss, at.w, at.theta, batch, at.u)
    return slope, curved, _cross_product(loss, at.w, at.theta, batch, at.u)


def _outer_terms(loss: Loss, at: SobaState, batch: PyTree) -> tuple[PyTree, PyTree]:
    """∂J/∂w, ∂J/∂θ."""
    return jax.grad(loss, argnums=(0, 1))(at.w, at.theta, batch)


def _step(
    at: SobaState,
    inner: tuple[PyTree, PyTree, PyTree],
    outer: tuple[PyTree, PyTree],
    inner_step: ArrayLike,
    outer_step: ArrayLike,
) -> SobaState:
    slope, curved, cross = inner
    g, direct = outer
    return SobaState(
        axpy(-jnp.asarray(inner_step), slope, at.w),
        axpy(-jnp.asarray(inner_step), subtract(curved, g), at.u),
        axpy(-jnp.asarray(outer_step), subtract(direct, cross), at.theta),
    )


def _reduced(
    new: PyTree, table: PyTree, mean: PyTree, i: Int[Array, ""] | int
) -> tuple[PyTree, PyTree, PyTree]:
    """(new − old + mean, table with the new one at i, its mean)."""
    change = subtract(new, _entry(table, i))
    count = jax.tree.leaves(table)[0].shape[0]
    # a slice, not the scatter of `.at[i].set`, which is slower on a CPU
    table = jax.tree.map(
        lambda rows, x: jax.lax.dynamic_update_index_in_dim(rows, x, i, 0), table, new
    )
    return axpy(1.0, change, mean), table, axpy(1 / count, change, mean)


def _entry(tree: PyTree, i: Int[Array, ""] | int) -> PyTree:
    return jax.tree.map(lambda rows: jax.lax.dynamic_index_in_dim(rows, i, 0, keepdims=False), tree)


def _hessian_product(loss: Loss, w: PyTree, theta: PyTree, batch: PyTree, v: PyTree) -> PyTree:
    return jax.jvp(lambda w: jax.grad(loss)(w, theta, batch), (w,), (v,))[1]


def _cross_product(loss: Loss, w: PyTree, theta: PyTree, batch: PyTree, v: PyTree) -> PyTree:
    return jax.vjp(lambda theta: jax.grad(loss)(w, theta, batch), theta)[1](v)[0]
