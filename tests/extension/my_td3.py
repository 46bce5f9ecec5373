"""Twin delayed deep deterministic policy gradient, as a learner of a user's own."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from omd.agents import Learner, moving_average, networks, setting, smallest
from omd.agents.actions import to_range, to_unit


class Target(NamedTuple):
    critics: Any
    actor: Any


class State(NamedTuple):
    w: Any
    target: Target
    actor: Any
    moments: Any
    actor_moments: Any
    count: jax.Array


class Td3(Learner):
    """Deterministic actor, noise on the target's actions, an actor step every other update."""

    noise_scale: float = setting(0.1, "Of exploration, in [−1, 1].", low=0)
    smoothing: float = setting(0.2, "Noise on the target's actions.", low=0)
    delay: int = setting(2, "Critic updates for each actor update.", low=1)

    @classmethod
    def takes(cls, spec):
        return spec.num_actions is None

    @property
    def size(self):
        return self.spec.action_size

    def init(self, key, hyper):
        keys = jax.random.split(key)
        w, inputs = self._critics(keys[0]), self.spec.observation_size
        actor = networks.orthogonal_mlp(
            keys[1], inputs, self.size, self.hidden, self.dtype, activation=self.activation
        )
        adam = self.optimizer(0.0)
        zero = jnp.zeros((), jnp.int32)
        return State(w, Target(w, actor), actor, adam.init(w), adam.init(actor), zero)

    def restart(self, state, key, hyper):
        w = self._critics(key)
        moments = self.optimizer(0.0).init(w)
        return state._replace(w=w, target=state.target._replace(critics=w), moments=moments)

    def _critics(self, key):
        inputs = self.spec.observation_size + self.size
        return networks.random_mlps(
            self.critics, key, inputs, 1, self.hidden, self.dtype, activation=self.activation
        )

    @property
    def action_bits(self):
        return 2 * self.size + 1

    def noise(self, bits):
        uniform = ((bits >> 9).astype(self.dtype) + 0.5) * 2.0**-23
        normal = jnp.sqrt(2.0) * jax.lax.erf_inv(2 * uniform[: self.size] - 1)
        return normal, uniform[self.size], 2 * uniform[self.size + 1 :] - 1

    def evaluation_noise(self, bits):
        normal, explore, action = self.noise(bits)
        return jnp.zeros_like(normal), explore, action

    def _act(self, actor, x):
        return jnp.tanh(networks.apply(actor, x))

    def act(self, state, observation, noise, hyper):
        normal, explore, uniform = noise
        unit = self._act(state.actor, observation[:, None])[:, 0] + self.noise_scale * normal
        unit = jnp.where(explore < hyper.epsilon, uniform, jnp.clip(unit, -1, 1))
        return to_range(self.spec, unit)

    def greedy(self, state, observation):
        return to_range(self.spec, self._act(state.actor, observation.T).T)

    def q(self, w, x, unit):
        joint = jnp.concatenate([x, unit])
        return jnp.stack([networks.apply(critic, joint)[0] for critic in w])

    def value(self, target, observation, hyper, key):
        x = observation.T
        noise = self.smoothing * jax.random.normal(key, (self.size, x.shape[1]), self.dtype)
        unit = self._act(target.actor, jax.lax.stop_gradient(x)) + jnp.clip(noise, -0.5, 0.5)
        return smallest(self.q(target.critics, x, jnp.clip(unit, -1, 1)))

    def sample(self, state, observation, hyper, key):
        return self.greedy(state, observation), jnp.zeros(observation.shape[0], self.dtype)

    def log_prob(self, state, observation, action, hyper):
        return jnp.zeros(observation.shape[0], self.dtype)

    def predictions(self, w, batch):
        return self.q(w, batch.observation.T, to_unit(self.spec, batch.action).T)

    def step(self, state, y, batch, hyper, key):
        w, moments, info = self.critic_step(state.w, state.moments, y, batch, hyper)
        x = batch.observation.T

        def loss(actor):
            return -jnp.mean(self.q(w, x, self._act(actor, x))[0])

        value, gradient = jax.value_and_grad(loss)(state.actor)
        adam = self.optimizer(hyper.inner_learning_rate)
        updates, actor_moments = adam.update(gradient, state.actor_moments, state.actor)
        moved = optax.apply_updates(state.actor, updates)
        due = state.count % self.delay == 0
        actor, actor_moments = jax.tree.map(
            lambda new, old: jnp.where(due, new, old),
            (moved, actor_moments),
            (state.actor, state.actor_moments),
        )
        target = Target(
            moving_average(state.target.critics, w, hyper.tau),
            moving_average(state.target.actor, actor, hyper.tau),
        )
        info |= {"actor_loss": value}
        return State(w, target, actor, moments, actor_moments, state.count + 1), info
