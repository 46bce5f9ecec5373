"""What a finished lane learned, read back from its group's folder: its policy and its model."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from omd import agents, envs
from omd.errors import InputError
from omd.runs import files, folder
from omd.sweeps.group import AGENTS
from omd.sweeps.store import Sweep
from omd.types import Transition


class Trajectory(NamedTuple):
    """One episode, of T steps."""

    observations: np.ndarray
    """[T, obs]"""
    actions: np.ndarray
    """[T, ...]"""
    next_observations: np.ndarray
    """[T, obs], the true successors."""
    rewards: np.ndarray
    """[T]"""


class Trained:
    """A finished lane of a sweep. Raises `InputError` for a lane that isn't finished."""

    def __init__(self, sweep: Sweep, lane: int | np.integer) -> None:
        lane = int(lane)
        group = next(g for g in sweep.groups if lane in g.lanes)
        if not sweep.done(group):
            raise InputError(f"lane {lane} of {sweep.path} is not finished: run the sweep on")
        self.config = sweep.lanes[lane]
        with folder.precision(self.config):
            self.env = folder.make_env(self.config, lanes=1)
            self.agent = agents.build(self.config, self.env.spec, group.padded)
            like = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct((len(group.lanes), *x.shape), x.dtype),
                jax.eval_shape(self.agent.init, jax.random.key(0), agents.hyper(self.config)),
            )
            arrays = files.read_checkpoint(sweep.folder(group) / AGENTS)
            place = group.lanes.index(lane)
            self.state = jax.tree.map(lambda x: jnp.asarray(x[place]), files.state_of(arrays, like))

    def episode(self, seed: int = 0) -> Trajectory:
        """One episode of the most probable actions, from a start that `seed` draws."""
        with folder.precision(self.config), envs.host_errors(self.env):
            key = jax.random.key(seed)
            state, observation = self.env.reset(jax.random.split(key, 1))
            steps = []
            for time in range(self.env.spec.max_episode_steps or self.config.evaluate_max_steps):
                action = self._act(observation)
                keys = jax.random.split(jax.random.fold_in(key, time + 1), 1)
                state, after = self._step(state, action, keys)
                steps.append(
                    (observation[0], action[0], after.next_observation[0], after.reward[0])
                )
                observation = after.observation
                if after.terminated[0] or after.truncated[0]:
                    break
        return Trajectory(
            *(np.stack([np.asarray(x) for x in column]) for column in zip(*steps, strict=True))
        )

    def predict(self, trajectory: Trajectory) -> np.ndarray:
        """The model's mean next state after each step of a trajectory, [T, obs]."""
        count = len(trajectory.rewards)
        batch = Transition(
            jnp.asarray(trajectory.observations),
            jnp.asarray(trajectory.actions),
            jnp.asarray(trajectory.rewards),
            jnp.asarray(trajectory.next_observations),
            jnp.zeros(count, bool),
        )
        with folder.precision(self.config):
            key = jax.random.key(0)
            return np.asarray(self.agent.model.predict(self.state.theta, batch, key).mean)

    @functools.cached_property
    def _act(self):
        return jax.jit(lambda x: self.agent.learner.greedy(self.state.learner, x))

    @functools.cached_property
    def _step(self):
        return self.env.step if self.env.on_host else jax.jit(self.env.step)
