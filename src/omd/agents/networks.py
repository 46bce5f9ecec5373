"""Q-networks, value networks and models: equinox layers over features-by-batch arrays.

Activations are kept as [features, batch]: on a CPU every product is then a plain row-major
matrix product and every element-wise pass runs along the batch.
"""

from __future__ import annotations

import itertools
import operator

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from omd.config import LAYERS, Widths

BIAS = "bias"
"""The scope of products that only add a bias or sum its gradient; costs leave them out."""


@jax.custom_jvp
def relu(x: Array) -> Array:
    """max(x, 0), derivative 0 at 0 (appendix D); without a select (docs/performance.md)."""
    return jnp.maximum(x, 0)


@relu.defjvp
def _relu_jvp(primals, tangents):
    y = relu(primals[0])
    return y, tangents[0] * jnp.sign(y)


class Layer(eqx.nn.Linear):
    """A linear layer that knows what comes after it, should it be a hidden one."""

    activation: str = eqx.field(static=True)
    """`relu`, or the name of another function of `jax.nn`."""

    def __init__(
        self, inputs: int, outputs: int, *, activation: str, key: Array, dtype: DTypeLike
    ) -> None:
        super().__init__(inputs, outputs, key=key, dtype=dtype)
        self.activation = activation

    def activate(self, x: Array) -> Array:
        """The activation, element by element."""
        return relu(x) if self.activation == "relu" else getattr(jax.nn, self.activation)(x)


Mlp = tuple[Layer, ...]


def orthogonal_mlp(
    key: Array,
    inputs: int,
    outputs: int,
    width: Widths,
    dtype: DTypeLike,
    padded: Widths | None = None,
    *,
    layers: int = LAYERS,
    activation: str = "relu",
) -> Mlp:
    """Hidden layers, orthogonal weights (gain √2, output 0.01), zero biases (appendix D).

    `width` is the units of each of `layers` hidden layers, or a number for each layer. `padded`,
    of the same form, adds hidden units without weights in or out: their gradients are exactly zero
    and optimisers leave them there, so that models of several widths share one compiled program.
    """
    widths, wide = (
        (each,) * layers if isinstance(each, int) else each for each in (width, padded or width)
    )
    sizes = [inputs, *widths, outputs]
    shapes = [inputs, *wide, outputs]
    gains = [2**0.5] * len(widths) + [0.01]
    # one draw for all layers: each one compiles anew, and a run's start waits for it
    areas = [fan_in * fan_out for fan_in, fan_out in itertools.pairwise(sizes)]
    normals = jnp.split(
        jax.random.normal(key, (sum(areas),), dtype), list(itertools.accumulate(areas))[:-1]
    )
    made = []
    for i, (normal, gain) in enumerate(zip(normals, gains, strict=True)):
        weight = gain * _orthogonal(normal.reshape(sizes[i + 1], sizes[i]))
        missing = [(0, shapes[i + 1] - sizes[i + 1]), (0, shapes[i] - sizes[i])]
        layer = Layer(shapes[i], shapes[i + 1], activation=activation, key=key, dtype=dtype)
        bias = jnp.zeros(shapes[i + 1], dtype)
        where = operator.attrgetter("weight", "bias")
        made.append(eqx.tree_at(where, layer, (jnp.pad(weight, missing), bias)))
    return tuple(made)


def _orthogonal(normal: Float[Array, "m n"]) -> Float[Array, "m n"]:
    """Orthonormal rows or columns, uniformly distributed, from standard normal numbers."""
    wide = normal.shape[0] < normal.shape[1]
    q, r = jnp.linalg.qr(normal.T if wide else normal)
    q = q * jnp.where(jnp.diag(r) < 0, -1, 1)
    return q.T if wide else q


def apply(mlp: Mlp, x: Float[Array, "inputs batch"]) -> Float[Array, "outputs batch"]:
    # one copy of x, lest XLA transpose it in every product (docs/performance.md)
    x = jax.lax.optimization_barrier(x)
    for layer in mlp[:-1]:
        x = layer.activate(_affine(layer, x))
    return _affine(mlp[-1], x)


def hidden_outputs(mlp: Mlp, x: Float[Array, "inputs batch"]) -> list[Float[Array, "units batch"]]:
    """What the units of each hidden layer give."""
    found = []
    for layer in mlp[:-1]:
        x = layer.activate(_affine(layer, x))
        found.append(x)
    return found


def dead_units(mlp: Mlp, x: Float[Array, "inputs batch"]) -> Int[Array, "layers 2"]:
    """For each hidden layer how many units are zero for the whole batch, and of how many; units
    that only pad the width don't count."""
    counts = []
    for layer, outputs in zip(mlp, hidden_outputs(mlp, x), strict=False):
        assert layer.bias is not None
        real = jnp.any(layer.weight != 0, axis=1) | (layer.bias != 0)
        dead = real & ~jnp.any(outputs != 0, axis=1)
        counts.append(jnp.stack([jnp.sum(dead), jnp.sum(real)]))
    return jnp.stack(counts)


def _affine(layer: eqx.nn.Linear, x: Float[Array, "inputs batch"]) -> Float[Array, "outputs batch"]:
    """weight · x + bias, the bias as a product, and so its gradient (docs/performance.md)."""
    with jax.named_scope(BIAS):
        ones = jnp.ones((1, x.shape[1]), x.dtype)
        # in full precision on a GPU too, which else may take TF32 for products
        assert layer.bias is not None
        bias = jnp.matmul(layer.bias[:, None], ones, precision="highest")
    return layer.weight @ x + bias


def tangent_kernel(
    mlp: Mlp, x: Float[Array, "inputs batch"], outputs: Float[Array, "outputs batch"]
) -> Float[Array, "batch batch"]:
    """J Jᵀ for J = ∂(outputs · mlp(x))/∂(weights and biases) [batch, parameters], layer by layer:
    no matrix has a side of the parameters' number."""
    inputs, slopes = [x], [jnp.ones_like(x)]
    for layer in mlp[:-1]:
        before = _affine(layer, inputs[-1])
        after, slope = jax.jvp(layer.activate, (before,), (jnp.ones_like(before),))
        inputs.append(after)
        slopes.append(slope)
    kernel, delta = jnp.zeros((x.shape[1],) * 2, x.dtype), outputs
    for layer, a, slope in zip(reversed(mlp), reversed(inputs), reversed(slopes), strict=True):
        kernel += (a.T @ a + 1) * (delta.T @ delta)
        delta = (layer.weight.T @ delta) * slope
    return kernel


def random_mlps(
    count: int,
    key: Array,
    inputs: int,
    outputs: int,
    width: Widths,
    dtype: DTypeLike,
    *,
    activation: str = "relu",
) -> tuple[Mlp, ...]:
    """Independent networks: double critics, or the value functions of eq. (14)."""
    keys = jax.random.split(key, count)
    return tuple(
        orthogonal_mlp(k, inputs, outputs, width, dtype, activation=activation) for k in keys
    )
