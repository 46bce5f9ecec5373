"""Calls from compiled code to the host, all lanes at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback
from jaxtyping import Array

from omd.types import PyTree


def call_host(function: Callable[..., PyTree], shapes: PyTree, *arguments: Array) -> PyTree:
    """`function(*arguments)` on the host; `shapes` are those of its results.

    Calls are ordered by data alone, so that lanes may be sharded: pass on what the call before
    returned. float64 numbers travel as their bits, for the thread that runs a callback doesn't
    share the `jax.enable_x64` of the one that compiled it, and would round them.
    """
    dtypes = [argument.dtype for argument in arguments]

    def on_host(*packed: Array) -> PyTree:
        values = [
            np.asarray(p).view(dtype)[..., 0] if dtype == jnp.float64 else np.asarray(p)
            for p, dtype in zip(packed, dtypes, strict=True)
        ]
        return jax.tree.map(
            lambda r: r[..., None].view(np.uint32) if r.dtype == np.float64 else r,
            function(*values),
        )

    packed_shapes = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct((*s.shape, 2), jnp.uint32) if s.dtype == jnp.float64 else s,
        shapes,
    )
    results = io_callback(on_host, packed_shapes, *map(_pack, arguments))
    return jax.tree.map(
        lambda r, s: jax.lax.bitcast_convert_type(r, s.dtype) if s.dtype == jnp.float64 else r,
        results,
        shapes,
    )


def varying_as(lanes: Array, result: Any) -> Array:
    """`result` [L, ...], which `jax.shard_map` then knows to vary over the axes that `lanes` do."""
    mask = (lanes >= 0).reshape(-1, *(1,) * (result.ndim - 1))
    return jnp.where(mask, result, result)


def _pack(argument: Array) -> Array:
    if argument.dtype == jnp.float64:
        return jax.lax.bitcast_convert_type(argument, jnp.uint32)
    return argument
