"""The one training loop: L lanes, each a seed with its own settings, in one compiled program."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from omd import compilation
from omd.agents import AgentState, Hyper, agent
from omd.envs import Env
from omd.settings import Settings
from omd.training import devices, replay
from omd.training.evaluation import evaluate
from omd.types import Metrics, PyTree, Transition

EVALUATION = "evaluation"
Key = tuple[int, bool] | str
"""Of a compiled program: the (steps, learn) of a chunk, or `EVALUATION`."""


class LaneState(NamedTuple):
    """Everything a lane is; leaves carry the lane axis. Its random numbers come from its own key
    and its step alone, so they don't depend on which lanes run beside it or how it is cut."""

    key: Array
    step: Int[Array, " L"]
    env: PyTree
    observation: Array
    replay: replay.Replay
    agent: AgentState
    hyper: Hyper


class Draws(NamedTuple):
    """One step's random numbers, drawn for a chunk at once; keys as raw words.

    docs/performance.md says why.
    """

    env: Array
    action: PyTree
    minibatches: Array
    update: Array


class Program:
    """The compiled functions of a group of lanes that share all shapes."""

    def __init__(
        self, config: Settings, env: Env, evaluation_env: Env, lanes: int, padded: int | None
    ) -> None:
        """`evaluation_env` has `evaluate_episodes` × `lanes` lanes of its own; `padded` is the
        width that models are padded to, their own by default."""
        self.config = config
        self.env, self.evaluation_env = env, evaluation_env
        self.agent = agent.build(config, env.spec, padded)
        self.devices = devices.count(lanes, on_host=env.on_host)
        self.padding = -lanes % self.devices
        self.lanes = lanes
        self.one_by_one = jax.default_backend() == "cpu"
        self._programs: dict[Key, Callable] = {}

    def fresh(self, lanes: list[Settings], keys: Sequence[Array] | None = None) -> LaneState:
        """Lanes before their first step, each initialised by itself, so that its numbers are the
        same whatever runs beside it. `keys` are theirs, by default those of their seeds."""
        keys = keys or [jax.random.key(config.seed_list[0]) for config in lanes]
        init_keys = [jax.random.fold_in(key, 0) for key in keys]
        reset = jax.random.wrap_key_data(
            jnp.stack([jax.random.key_data(jax.random.fold_in(key, 1)) for key in keys])
        )
        env, observation = self.env.reset(reset)
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

    def compile_ahead(self, state: LaneState, chunks: Sequence[tuple[int, bool]]) -> None:
        """Begin to compile the evaluation, and what `advance` needs for these (steps, learn), in
        threads, in this order: the first of them run while the last compile."""

        def like(x):
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)

        def compiled(program, argument):
            with jax.enable_x64(wide):  # a thread doesn't share its parent's
                return program.lower(argument).compile()

        wide = bool(jax.config.read("jax_enable_x64"))
        shapes = jax.tree.map(like, state)
        arguments = {EVALUATION: _evaluated(shapes)} | dict.fromkeys(chunks, shapes)
        threads = ThreadPoolExecutor(2, "compile")
        for key, argument in arguments.items():
            if key in self._programs:
                continue
            future = threads.submit(compiled, self._jitted(key), argument)
            self._programs[key] = lambda argument, future=future: future.result()(argument)
        threads.shutdown(wait=False)

    def _run(self, key: Key, argument: PyTree) -> Any:
        if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(argument)):
            return self._function(key)(argument)  # a part of the caller's program
        if key not in self._programs:
            self._programs[key] = self._jitted(key)
        return self._programs[key](argument)

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

    def _function(self, key: Key) -> Callable[[PyTree], PyTree]:
        turns = self.one_by_one and not self.env.on_host
        if isinstance(key, str):

            def evaluate_alone(lane):
                return _squeeze(self._evaluate_lanes(_expand(lane)))

            each = functools.partial(jax.lax.map, evaluate_alone)
            return devices.over_lanes(each if turns else self._evaluate_lanes, self.devices)
        steps, learn = key
        chunk = functools.partial(self._chunk, steps=steps, learn=learn)
        together = functools.partial(chunk, each=jax.vmap, env_step=self.env.step)
        alone = functools.partial(chunk, each=lambda f: f, env_step=self._step_alone)
        one_by_one = functools.partial(_one_by_one, alone)
        return devices.over_lanes(one_by_one if turns else together, self.devices)

    def _evaluate_lanes(self, args) -> Metrics:
        key, step, agents, hyper = args
        keys = jax.vmap(lambda k, t: jax.random.fold_in(jax.random.fold_in(k, t), 7))(key, step)
        return evaluate(self.agent, self.evaluation_env, agents, hyper, keys, self.config)

    def _step_alone(self, state, action, key):
        return _squeeze(self.env.step(*_expand((state, action, key))))

    def _draw(self, key: Array, step: Array) -> Draws:
        """The random numbers of one step of one lane."""
        learner = self.agent.learner
        shape = (self.agent.minibatches, self.config.batch_size)
        sizes = [2, 2, learner.action_bits, shape[0] * shape[1]]
        bits = jax.random.bits(jax.random.fold_in(key, step), (sum(sizes),), "uint32")
        env, update, action, minibatches = jnp.split(bits, list(itertools.accumulate(sizes))[:-1])
        return Draws(env, learner.noise(action), minibatches.reshape(shape), update)

    def _chunk(
        self,
        state: LaneState,
        steps: int,
        *,
        learn: bool,
        each: Callable,
        env_step: Callable,
        lane: replay.Lane = (),
    ) -> tuple[LaneState, Metrics]:
        """`each` makes a function of one lane one of the lanes in `state`: `jax.vmap`, or nothing
        where `state` is one lane without the axis; `env_step` steps the environment of those.
        `lane` is then its index in the replay buffers, which keep theirs."""
        # lanes of a host environment step together, and on a CPU are updated one after another
        update = devices.in_turn if self.one_by_one and self.env.on_host else each
        explore = state.hyper
        if not learn:
            explore = explore._replace(epsilon=jnp.full_like(explore.epsilon, 2))

        def step(carry, draws: Draws):
            env_state, observation, buffer, agents = carry
            action = each(self.agent.act)(agents, observation, draws.action, explore)
            keys = jax.random.wrap_key_data(draws.env)
            env_state, after = env_step(env_state, action, keys)
            transition = Transition(
                observation, action, after.reward, after.next_observation, after.terminated
            )
            buffer = each(functools.partial(replay.add, lane=lane))(buffer, transition)
            info: Metrics = {"reward": after.reward}
            if learn:
                minibatches = functools.partial(self._minibatches, lane=lane)
                batches = each(minibatches)(buffer, draws.minibatches)
                agents, updated = update(self._update)(agents, batches, draws.update, state.hyper)
                info |= updated
            return (env_state, after.observation, buffer, agents), info

        times = jnp.arange(steps)[(...,) + (None,) * state.step.ndim] + state.step
        draws = jax.vmap(each(self._draw), (None, 0))(state.key, times)
        carry = (state.env, state.observation, state.replay, state.agent)
        carry, infos = jax.lax.scan(step, carry, draws)
        env_state, observation, buffer, agents = carry
        means = {name: jnp.mean(x, axis=0) for name, x in infos.items()}
        return (
            LaneState(
                state.key,
                state.step + steps,
                env_state,
                observation,
                buffer,
                agents,
                state.hyper,
            ),
            means | {"finite": each(_finite)(agents)},
        )

    def _minibatches(self, buffer, bits, lane=()):
        spec, size = self.env.spec, self.agent.objective.window
        if size == 1:
            return [replay.sample(buffer, b, spec, lane) for b in bits]
        return [one for b in bits for one in replay.windows(buffer, b, size, spec, lane)]

    def _update(self, agents, batches, key, hyper):
        return self.agent.update(agents, batches, jax.random.wrap_key_data(key), hyper)


def _one_by_one(chunk: Callable, lanes: LaneState) -> tuple[LaneState, Metrics]:
    """A chunk of each lane, one after another; the replay buffers stay where they are."""

    def one(buffers, turn):
        index, rest = turn
        lane, metrics = chunk(LaneState(replay=buffers, **rest), lane=(index,))
        rest = lane._asdict()
        return rest.pop("replay"), (rest, metrics)

    rest = lanes._asdict()
    buffers = rest.pop("replay")
    buffers, (rest, metrics) = jax.lax.scan(one, buffers, (jnp.arange(len(lanes.step)), rest))
    return LaneState(replay=buffers, **rest), metrics


def _evaluated(state: LaneState) -> tuple:
    """What of a state an evaluation needs."""
    return state.key, state.step, state.agent, state.hyper


def _expand(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x[None], tree)


def _squeeze(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x[0], tree)


def _finite(agents: AgentState) -> Array:
    """Whether all parameters of a lane are finite."""
    leaves = jax.tree.leaves((agents.theta, agents.learner.w, agents.learner.target))
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves]))
