"""The one training loop: L lanes, each a seed with its own settings, in one compiled program."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from omd import compilation
from omd.agents import agent
from omd.config import Widths
from omd.envs import Env, host_errors
from omd.settings import Settings
from omd.training import devices, replay, strategies
from omd.training.chunk import Chunk, LaneState
from omd.training.compiled import Compiled
from omd.training.evaluation import evaluate
from omd.types import Metrics, PyTree

EVALUATION = "evaluation"
Key = tuple[int, bool] | str
"""Of a compiled program: the (steps, learn) of a chunk, or `EVALUATION`."""


class Program:
    """The compiled functions of a group of lanes that share all shapes."""

    def __init__(
        self, config: Settings, env: Env, evaluation_env: Env, lanes: int, padded: Widths | None
    ) -> None:
        """`evaluation_env` has `evaluate_episodes` × `lanes` lanes of its own; `padded` is what
        models are padded to, their own width by default."""
        self.config = config
        self.env, self.evaluation_env = env, evaluation_env
        self.agent = agent.build(config, env.spec, padded)
        self.devices = devices.count(lanes, on_host=env.on_host)
        self.padding = -lanes % self.devices
        self.lanes = lanes
        self._strategy = strategies.choose(on_host=env.on_host)
        self._compiled = Compiled(self._jitted)

    def fresh(self, lanes: list[Settings], keys: Sequence[Array] | None = None) -> LaneState:
        """Lanes before their first step, each initialised by itself, so that its numbers are the
        same whatever runs beside it. `keys` are theirs, by default those of their seeds."""
        keys = keys or [jax.random.key(config.seed_list[0]) for config in lanes]
        init_keys = [jax.random.fold_in(key, 0) for key in keys]
        reset = jax.random.wrap_key_data(
            jnp.stack([jax.random.key_data(jax.random.fold_in(key, 1)) for key in keys])
        )
        with self.host_errors():
            env, observation = jax.block_until_ready(self.env.reset(reset))
        buffers = jax.eval_shape(
            lambda: replay.empty(self.env.spec, self.config.capacity, self.env.dtype)
        )
        inits = {
            width: jax.jit(
                agent.build(
                    dataclasses.replace(self.config, model_hidden=width),
                    self.env.spec,
                    self.agent.model.setup.padded,
                ).init
            )
            for width in {config.model_hidden for config in lanes}
        }
        agents = [
            inits[config.model_hidden](key, agent.hyper(config))
            for config, key in zip(lanes, init_keys, strict=True)
        ]
        stack = functools.partial(jax.tree.map, lambda *x: jnp.stack(x))
        count = len(lanes)
        return LaneState(
            jax.random.wrap_key_data(
                jnp.stack([jax.random.key_data(jax.random.fold_in(key, 2)) for key in keys])
            ),
            jnp.zeros(count, jnp.int32),
            env,
            observation,
            jax.tree.map(lambda x: jnp.zeros((count, *x.shape), x.dtype), buffers),
            stack(*agents),
            stack(*(agent.hyper(config) for config in lanes)),
        )

    def place(self, state: LaneState) -> LaneState:
        """Lay lanes over the devices; the last one is repeated until each has an equal share."""
        if self.padding:
            state = jax.tree.map(lambda x: jnp.concatenate([x, *[x[-1:]] * self.padding]), state)
        return devices.place(state, self.devices)

    def advance(self, state: LaneState, steps: int, *, learn: bool) -> tuple[LaneState, Metrics]:
        """`steps` environment steps, each with one update where `learn`; metrics are means over
        the steps, [L]."""
        return self._run((steps, learn), state)

    def evaluate(self, state: LaneState) -> Metrics:
        """Return and length of `evaluate_episodes` episodes of each lane, their mean, [L]."""
        return self._run(EVALUATION, _evaluated(state))

    def host_errors(self) -> contextlib.AbstractContextManager[None]:
        """What an environment raises in the block comes out as an `InputError`; wait for what
        `advance` and `evaluate` give within it."""
        return host_errors(self.env, self.evaluation_env)

    def compile_ahead(self, state: LaneState, chunks: Sequence[tuple[int, bool]]) -> None:
        """Begin to compile the evaluation, and what `advance` needs for these (steps, learn), in
        threads, in this order."""

        def like(x):
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)

        shapes = jax.tree.map(like, state)
        self._compiled.ahead({EVALUATION: _evaluated(shapes)} | dict.fromkeys(chunks, shapes))

    def chunk(self, steps: int, *, learn: bool) -> Chunk:
        """What one lane does between two looks from outside, as a pure function."""
        update = self._strategy.update(self.agent.update)
        step = strategies.alone(self.env.step)
        size = self.config.batch_size
        return Chunk(steps, learn, self.agent, self.env.spec, size, step, update)

    def _run(self, key: Key, argument: PyTree) -> Any:
        if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(argument)):
            return self._function(key)(argument)  # a part of the caller's program
        return self._compiled(key, argument)

    def _jitted(self, key: Key) -> Any:
        function, options = self._function(key), compilation.widest()
        if key == EVALUATION:
            return jax.jit(function, compiler_options=options)
        return jax.jit(
            function,
            donate_argnums=0,
            out_shardings=devices.sharding(self.devices),
            compiler_options=options,
        )

    def _function(self, key: Key) -> Callable[[PyTree], Any]:
        if isinstance(key, str):
            on_device: Callable = self._strategy.evaluation(self._evaluate_lanes)
        else:
            steps, learn = key
            on_device = self._strategy.chunk(self.chunk(steps, learn=learn))
        return devices.over_lanes(on_device, self.devices)

    def _evaluate_lanes(self, args: tuple) -> Metrics:
        key, step, agents, hyper = args
        keys = jax.vmap(lambda k, t: jax.random.fold_in(jax.random.fold_in(k, t), 7))(key, step)
        return evaluate(self.agent, self.evaluation_env, agents, hyper, keys, self.config)


def _evaluated(state: LaneState) -> tuple:
    """What of a state an evaluation needs."""
    return state.key, state.step, state.agent, state.hyper
