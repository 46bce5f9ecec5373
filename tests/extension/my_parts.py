"""Parts that a user wrote, in a module of their own: nothing of the package is edited."""

from __future__ import annotations

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import optax

from omd.agents import Deterministic, Fitted, Optimizer, Prediction, reward_error, setting
from omd.implicit import AbstractMethod
from omd.implicit.report import of_approximation


class IterVaml(Fitted):
    """Values of the current target network at true and predicted next states."""

    weight: float = setting(1.0, "Of the squared reward error.", low=0)

    def loss(self, prediction, batch, state, context):
        true = context.value(state.learner, batch.next_observation)
        made = context.value(state.learner, prediction.sample)
        error = jnp.mean(jnp.square(made - jax.lax.stop_gradient(true)))
        return error + self.weight * reward_error(prediction, batch)


class Richardson(AbstractMethod):
    """u ← u + step (g − Aᵀu), a few times from g."""

    steps: int = setting(3, "Iterations.", low=1, static=True)
    step: float = setting(0.5, "Length of a step.", low=0, open_low=True)

    @property
    def products(self):
        return self.steps

    def solve(self, vjp, g, *, check=False):
        def move(_, u):
            return jax.tree.map(lambda u, g, a: u + self.step * (g - a), u, g, vjp(u))

        u = jax.lax.fori_loop(0, self.steps, move, g)
        return u, of_approximation(vjp, u, g, self.steps, check=check)


class Signs(Optimizer):
    """A step of one length, in the direction of the gradient's signs."""

    scale: float = setting(1.0, "Of the learning rate.", low=0, open_low=True)

    def transformation(self, rate):
        return optax.chain(optax.scale_by_sign(), optax.scale_by_learning_rate(self.scale * rate))


class Pair(Deterministic):
    """Two networks; the prediction is their mean."""

    spread: float = setting(0.0, "Standard deviation of noise on the starting weights.", low=0)

    def init(self, key):
        pair = [super(Pair, self).init(k) for k in jax.random.split(key)]
        draw = jax.random.normal
        noisy = lambda x: x + self.spread * draw(key, x.shape, x.dtype)  # noqa: E731
        return tuple(jax.tree.map(noisy, network) for network in pair)

    def predict(self, theta, batch, key):
        first, second = (super(Pair, self).predict(one, batch, key) for one in theta)
        mean = (first.mean + second.mean) / 2
        return Prediction(mean, None, mean, (first.reward + second.reward) / 2)


class Corridor(gymnasium.Env):
    """Walk right to the end: −1 a step, the end is terminal."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, length=5):
        self.length, self.place, self.time = length, 0, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.time = 0
        return self._seen(), {}

    def step(self, action):
        self.place = max(0, self.place + (1 if action else -1))
        self.time += 1
        return self._seen(), -1.0, self.place >= self.length, self.time >= 30, {}

    def _seen(self):
        return np.array([min(1.0, self.place / self.length)], np.float32)


class NotAPart:
    """No subclass of anything."""
