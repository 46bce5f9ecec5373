"""Lanes: independent runs that share one compiled program, spread over the devices there are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, PyTree

from omd import compilation
from omd.errors import InputError
from omd.implicit import AbstractMethod
from omd.tabular.design.projection import Model

T = TypeVar("T")


class Lanes(NamedTuple):
    """Independent runs of model design; every leaf has the leading lane axis L."""

    theta: Model
    """Where θ starts: logits [L, S, A, S'], reward [L, S, A]."""
    q: Float[Array, "L S A"]
    """Where the first inner solve starts; later ones start from the last solution."""
    norm_bound: Float[Array, " L"]
    """κ ≥ 0, or infinity."""
    seed: Int[Array, " L"]
    """Seeds the noise: lanes of one seed share its draws."""
    noise: Float[Array, " L"] | None = None
    """σ ≥ 0 of the Gaussian noise on inner solutions (appendix C); None draws no noise at all."""
    hypergradient: AbstractMethod | None = None
    """In place of the design's, with numeric settings that carry the lane axis."""


def check_lanes(lanes: Lanes) -> None:
    """Raises `InputError` where a norm bound or a noise level is below zero or not a number."""
    for name, values in (("norm_bound", lanes.norm_bound), ("noise", lanes.noise)):
        if values is None or isinstance(values, jax.core.Tracer):
            continue
        wrong = ~(np.asarray(values) >= 0)
        if wrong.any():
            lane = int(wrong.argmax())
            raise InputError(
                f"{name} must be 0 or more, but is {np.asarray(values)[lane]} in lane {lane}; "
                "give one that is not negative."
            )


def cheaply(effort: int) -> dict[str, Any]:
    """Compiler options for programs that run for less time than they compile (docs/performance.md).

    `effort` is LLVM's, of 0 to 3.
    """
    if jax.config.values["jax_disable_most_optimizations"]:
        effort = 0
    return compilation.known(
        {"xla_backend_optimization_level": effort, "xla_cpu_use_fusion_emitters": False}
    )


def lane_jit(function: Callable[..., T]) -> Callable[..., T]:
    """`equinox.filter_jit` for programs over lanes."""

    @functools.cache
    def compiled(options: tuple[tuple[str, Any], ...]) -> Any:
        jit: Any = eqx.filter_jit  # takes options of jax.jit that its types don't name
        return jit(function, compiler_options=dict(options))

    @functools.wraps(function)
    def call(*args: Any) -> T:
        # options at the call: asking for them sets up devices, which importing must not do
        return compiled(tuple(cheaply(1).items()))(*args)

    return call


def map_lanes(run: Callable[..., PyTree], shared: PyTree, lanes: PyTree) -> PyTree:
    """run(shared, lane) for every lane; for use under `lane_jit`.

    `lanes` and the result carry the lane axis, `shared` does not. Devices share the lanes between
    them, and each ends its loops by itself. With one device this is a `vmap`.
    """
    arrays, static = eqx.partition(shared, eqx.is_array)

    def block(arrays, lanes):
        return jax.vmap(lambda lane: run(eqx.combine(arrays, static), lane))(lanes)

    devices = jax.local_devices()
    count = len(jax.tree.leaves(lanes)[0])
    if len(devices) == 1 or count < len(devices):
        return block(arrays, lanes)
    spare = -count % len(devices)
    filled = jax.tree.map(lambda x: jnp.concatenate([x, x[:spare]]), lanes)
    along = PartitionSpec("lanes")
    spread = jax.shard_map(
        block,
        mesh=Mesh(np.asarray(devices), ("lanes",)),
        in_specs=(PartitionSpec(), along),
        out_specs=along,
        check_vma=False,
    )
    return jax.tree.map(lambda x: x[:count], spread(arrays, filled))
