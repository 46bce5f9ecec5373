"""A whole run of one lane as a pure function, to compile, map and differentiate like any other."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from omd import compilation
from omd.config import Config, env_text
from omd.errors import InputError
from omd.runs import folder, session
from omd.training.chunk import LaneState
from omd.types import Metrics


def make_train(config: Config) -> Callable[[Array], tuple[LaneState, Metrics]]:
    """A function key -> (state, metrics) that trains one lane from its first step to its last.

    Nothing is written or shown, and the function may be jitted and vmapped over keys. Metrics are
    [evaluations], the one before the first step included: `step`, `episode_return`, and the
    training metrics of the steps before each, NaN where nothing was trained. The state is the
    lane's, without a lane axis.

    The key `jax.random.key(s)` trains as the lane of seed s of `omd.train(config)` does; to the
    same bits when it is compiled with the same options, `jax.jit(train, compiler_options=
    omd.compiler_options())`. Under `vmap` they agree to rounding, under `jax.lax.map` to the
    bit. The configuration's own seeds aren't used. With precision "float64"
    call it under `jax.enable_x64(True)`. Raises `InputError` for an environment that isn't written
    in JAX, and for settings that can't work.
    """
    with folder.precision(config):
        program = folder.program_of(dataclasses.replace(config, seeds=1), lanes=1)
    if program.env.on_host:
        raise InputError(
            f"{env_text(config.env)} runs in Python, not in JAX, so it can't be part of a compiled "
            "function: use omd.train"
        )
    settings = program.config
    chunks = session.boundaries(settings, 0)

    def chunk(
        state: LaneState, _: None, *, steps: int, learn: bool, evaluated: bool
    ) -> tuple[LaneState, Metrics | None]:
        state, metrics = program.advance(state, steps, learn=learn)
        del metrics["finite"]
        return state, metrics | program.evaluate(state) if evaluated else None

    def train(key: Array) -> tuple[LaneState, Metrics]:
        # settings stay arguments of the steps, as they are in omd.train, whose bits these are
        state = jax.lax.optimization_barrier(program.fresh(folder.lanes_of(settings), [key]))
        records = [jax.tree.map(lambda x: x[None], program.evaluate(state))]
        for (steps, learn, evaluated), alike in itertools.groupby(chunks, lambda c: c[:3]):
            count = len(list(alike))
            same = functools.partial(chunk, steps=steps, learn=learn, evaluated=evaluated)
            state, record = jax.lax.scan(same, state, length=count)
            if record is not None:
                records.append(record)
        names = dict.fromkeys(name for record in records for name in record)
        empty = [jnp.full(len(r["episode_return"]), jnp.nan, settings.precision) for r in records]
        metrics = {
            name: jnp.concatenate(
                [r[name][:, 0] if name in r else e for r, e in zip(records, empty, strict=True)]
            )
            for name in names
        }
        ends = [0, *(chunk.end for chunk in chunks if chunk.evaluated)]
        return jax.tree.map(lambda x: x[0], state), {"step": jnp.array(ends), **metrics}

    return train


def compiler_options() -> dict[str, object]:
    """What `omd.train` gives XLA's compiler on this machine."""
    return compilation.widest()
