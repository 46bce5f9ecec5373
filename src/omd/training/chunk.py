"""A chunk of one lane: environment steps, each with an update, as a pure function."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from omd.agents import Agent, AgentState, Hyper, signs
from omd.training import replay
from omd.types import EnvSpec, Metrics, PyTree, Step, Transition

SIGNS = 256
"""Transitions on which a lane is looked at after each chunk."""
ONCE = "once-a-chunk"
"""Names operations that a chunk does once, whatever its steps."""


class LaneState(NamedTuple):
    """Everything a lane is; of several lanes, leaves carry a leading lane axis. Its random numbers
    come from its own key and its step alone, so they don't depend on which lanes run beside it or
    how it is cut."""

    key: Array
    step: Int[Array, "*lane"]
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


@dataclasses.dataclass(frozen=True)
class Chunk:
    """`steps` environment steps of one lane, each with one update where `learn`."""

    steps: int
    learn: bool
    agent: Agent
    spec: EnvSpec
    batch_size: int
    env_step: Callable[[PyTree, Array, Array], tuple[PyTree, Step]]
    """Of the environment, for one lane."""
    update: Callable[..., tuple[AgentState, Metrics]]
    """`agent.update`, or what stands for it where several lanes are vmapped."""

    def __call__(self, state: LaneState, at: replay.Lane = ()) -> tuple[LaneState, Metrics]:
        """The lane after its steps, and metrics: means over the steps, and whether all parameters
        are finite. `at` is the lane's index where `state.replay` holds the buffers of several."""
        explore = state.hyper
        if not self.learn:
            explore = explore._replace(epsilon=jnp.full_like(explore.epsilon, 2))

        def step(carry: tuple, draws: Draws) -> tuple[tuple, Metrics]:
            env, observation, buffer, agent = carry
            action = self.agent.act(agent, observation, draws.action, explore)
            env, after = self.env_step(env, action, jax.random.wrap_key_data(draws.env))
            transition = Transition(
                observation, action, after.reward, after.next_observation, after.terminated
            )
            buffer = replay.add(buffer, transition, at)
            info: Metrics = {"reward": after.reward}
            if self.learn:
                batches = self.minibatches(buffer, draws.minibatches, at)
                key = jax.random.wrap_key_data(draws.update)
                agent, updated = self.update(agent, batches, key, state.hyper)
                info |= updated
            return (env, after.observation, buffer, agent), info

        times = jnp.arange(self.steps) + state.step
        draws = jax.vmap(self._draw, (None, 0))(state.key, times)
        carry = (state.env, state.observation, state.replay, state.agent)
        (env, observation, buffer, agent), infos = jax.lax.scan(step, carry, draws)
        means = {name: jnp.mean(x, axis=0) for name, x in infos.items()}
        step_now = state.step + self.steps
        after = LaneState(state.key, step_now, env, observation, buffer, agent, state.hyper)
        return after, means | self._signs(after, at) | {"finite": _finite(agent)}

    def _draw(self, key: Array, step: Array) -> Draws:
        """The random numbers of one step."""
        learner = self.agent.learner
        shape = (self.agent.minibatches, self.batch_size)
        sizes = [2, 2, learner.action_bits, shape[0] * shape[1]]
        bits = jax.random.bits(jax.random.fold_in(key, step), (sum(sizes),), "uint32")
        env, update, action, minibatches = jnp.split(bits, list(itertools.accumulate(sizes))[:-1])
        return Draws(env, learner.noise(action), minibatches.reshape(shape), update)

    def minibatches(
        self, buffer: replay.Replay, bits: Array, at: replay.Lane = ()
    ) -> list[Transition]:
        """Those of a step, from their random bits [minibatches, batch]."""
        size = self.agent.objective.window
        if size == 1:
            return [replay.sample(buffer, b, self.spec, at) for b in bits]
        return [one for b in bits for one in replay.windows(buffer, b, size, self.spec, at)]

    def _signs(self, state: LaneState, at: replay.Lane) -> Metrics:
        """Signs that training goes wrong, on transitions evenly spaced in the replay buffer."""
        apart = jnp.maximum(replay.held(state.replay, at) // SIGNS, 1)
        batch = replay.sample(
            state.replay, jnp.arange(SIGNS, dtype="uint32") * apart, self.spec, at
        )
        most = replay.largest_reward(state.replay, self.spec, at)
        with jax.named_scope(ONCE):
            return signs(self.agent, state.agent, batch, state.hyper, most)


def _finite(agent: AgentState) -> Array:
    leaves = jax.tree.leaves((agent.theta, agent.learner.w, agent.learner.target))
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves]))
