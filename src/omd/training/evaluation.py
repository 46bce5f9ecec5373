"""Returns of the acting policy on environments of its own, without exploration (appendix D); with
SAC of its mean action (appendix F)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from omd.agents import Agent, AgentState, Hyper
from omd.envs import Env
from omd.settings import Settings
from omd.types import Metrics

BLOCK = 100
"""Steps whose random numbers are drawn together; episodes are looked at after each block."""


def evaluate(
    agent: Agent, env: Env, agents: AgentState, hyper: Hyper, keys: Array, config: Settings
) -> Metrics:
    """Mean return and length over `evaluate_episodes` episodes of each lane, each [L].

    `env` has L × episodes lanes. An episode that is not over after `evaluate_max_steps` counts
    with what it has gathered.
    """
    lanes, episodes = keys.shape[0], config.evaluate_episodes
    hyper = hyper._replace(epsilon=jnp.zeros_like(hyper.epsilon))
    count, size = lanes * episodes, agent.learner.action_bits

    def flat(x):
        return x.reshape(count, *x.shape[2:])

    def split(x):
        return x.reshape(lanes, episodes, *x.shape[1:])

    def draw(step):
        """Random numbers of one step: environment keys [L·E], actions' noise [L, E, ...]."""

        def one(key):
            bits = jax.random.bits(jax.random.fold_in(key, step), (episodes, 2 + size), "uint32")
            return bits[:, :2], jax.vmap(agent.learner.evaluation_noise)(bits[:, 2:])

        env_keys, noise = jax.vmap(one)(keys)
        return flat(env_keys), noise

    act = jax.vmap(jax.vmap(agent.act, (None, 0, 0, None)))

    def step(carry, draws):
        state, observation, alive, total, length = carry
        number, (env_keys, noise) = draws
        action = act(agents, split(observation), noise, hyper)
        state, after = env.step(state, flat(action), jax.random.wrap_key_data(env_keys))
        alive = alive & (number < config.evaluate_max_steps)
        total = total + jnp.where(alive, after.reward, 0)
        length = length + alive
        alive = alive & ~(after.terminated | after.truncated)
        return (state, after.observation, alive, total, length), None

    def block(carry):
        begin, inner = carry
        numbers = begin + jnp.arange(BLOCK)
        draws = numbers, jax.vmap(draw)(numbers + 1)
        return begin + BLOCK, jax.lax.scan(step, inner, draws)[0]

    def unfinished(carry):
        begin, (_, _, alive, _, _) = carry
        return jnp.any(alive) & (begin < config.evaluate_max_steps)

    state, observation = env.reset(jax.random.wrap_key_data(draw(0)[0]))
    zeros = jnp.zeros(count, observation.dtype)
    inner = (state, observation, jnp.ones(count, bool), zeros, jnp.zeros(count, jnp.int32))
    _, (_, _, _, total, length) = jax.lax.while_loop(unfinished, block, (0, inner))
    return {
        "episode_return": jnp.mean(split(total), axis=1),
        "episode_length": jnp.mean(split(length).astype(total.dtype), axis=1),
    }
