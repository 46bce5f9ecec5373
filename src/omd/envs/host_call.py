"""Calls from compiled code to the host, all lanes at once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback
from jaxtyping import Array, UInt32

from omd.errors import InputError
from omd.types import PyTree


@contextlib.contextmanager
def host_errors(*envs: Any) -> Iterator[None]:
    """What one of these environments raises in the block comes out as an `InputError` of one
    sentence: compiled code hands on the text of it only, with that of our own calls. Wait for the
    results within the block."""
    _LOG.addFilter(_told)
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        inner = (getattr(env, "unwrapped", env) for env in envs)
        failure = next((f for env in inner if (f := getattr(env, "failure", None))), None)
        if failure is None:
            raise
        raise InputError(f"{failure}: mend it; what was saved before is kept") from error
    finally:
        _LOG.removeFilter(_told)


_LOG = logging.getLogger("jax._src.callback")
"""Where JAX writes a traceback of what a callback raises, before it hands it on."""


def _told(record: logging.LogRecord) -> bool:
    """Whether JAX may log it: not what an `InputError` tells."""
    return "io_callback failed" not in record.getMessage()


def call_host(function: Callable[..., PyTree], shapes: PyTree, *arguments: Array) -> PyTree:
    """`function(*arguments)` on the host; arguments are [L, ...], `shapes` those of its results.

    Calls are ordered by data alone, so that lanes may be sharded: pass on what the call before
    returned. All arguments travel as one array of 32-bit words, and so do all results: each array
    of a callback costs tens of µs. float64 also arrives unrounded that way, for the thread that
    runs a callback doesn't share the `jax.enable_x64` of the one that compiled it.
    """
    lanes = len(arguments[0])
    sent = [jax.ShapeDtypeStruct(argument.shape, argument.dtype) for argument in arguments]
    leaves, structure = jax.tree.flatten(shapes)

    def on_host(packed: Array) -> np.ndarray:
        columns = np.split(np.asarray(packed), _edges(sent), axis=1)
        values = [
            np.ascontiguousarray(column).view(leaf.dtype).reshape(leaf.shape)
            for column, leaf in zip(columns, sent, strict=True)
        ]
        results = jax.tree.leaves(function(*values))
        return np.concatenate([_words_of(result) for result in results], axis=1)

    words = jnp.concatenate([_words(argument) for argument in arguments], axis=1)
    shape: Any = jax.ShapeDtypeStruct((lanes, sum(map(_size, leaves))), jnp.uint32)
    columns = jnp.split(io_callback(on_host, shape, words), _edges(leaves), axis=1)
    values = [_value(column, leaf) for column, leaf in zip(columns, leaves, strict=True)]
    return jax.tree.unflatten(structure, values)


def varying_as(lanes: Array, result: Any) -> Array:
    """`result` [L, ...], which `jax.shard_map` then knows to vary over the axes that `lanes` do."""
    mask = (lanes >= 0).reshape(-1, *(1,) * (result.ndim - 1))
    return jnp.where(mask, result, result)


def _size(leaf: Any) -> int:
    """Words of one lane."""
    return int(np.prod(leaf.shape[1:])) * max(1, leaf.dtype.itemsize // 4)


def _edges(leaves: list[Any]) -> list[int]:
    return np.cumsum([_size(leaf) for leaf in leaves])[:-1].tolist()


def _words(value: Array) -> UInt32[Array, "L words"]:
    if value.dtype == jnp.bool_:
        value = value.astype(jnp.uint32)
    return jax.lax.bitcast_convert_type(value, jnp.uint32).reshape(len(value), -1)


def _words_of(value: np.ndarray) -> UInt32[np.ndarray, "L words"]:
    if value.dtype == np.bool_:
        value = value.astype(np.uint32)
    return np.ascontiguousarray(value).reshape(len(value), -1).view(np.uint32)


def _value(words: UInt32[Array, "L words"], leaf: Any) -> Array:
    if leaf.dtype == jnp.bool_:
        return words.reshape(leaf.shape) != 0
    pair = (2,) * (leaf.dtype.itemsize == 8)
    return jax.lax.bitcast_convert_type(words.reshape(*leaf.shape, *pair), leaf.dtype)
