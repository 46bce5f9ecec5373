"""A run's trained model: what it predicts, what it makes of many steps, and as an environment."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from omd import envs, parts
from omd.agents import Prediction
from omd.errors import InputError, in_a_line
from omd.runs import folder
from omd.types import EnvSpec, PyTree, Transition

if TYPE_CHECKING:
    import gymnasium

    from omd.runs.run import Run


class Rollout(NamedTuple):
    """What the model makes of a sequence of actions; leaves may begin with a batch axis."""

    observations: np.ndarray
    """[steps + 1, obs], the first of them given."""
    actions: np.ndarray
    """[steps], or [steps, act] for continuous ones."""
    rewards: np.ndarray
    """[steps]."""


def checked_observation(observation: Any, spec: EnvSpec) -> np.ndarray:
    """[obs] or [batch, obs] as an array; raises `InputError` for another shape, and for what
    aren't numbers."""
    observation, size = _numbers("observation", observation), spec.observation_size
    if observation.ndim not in (1, 2) or observation.shape[-1] != size:
        raise InputError(
            f"observation has shape {observation.shape}: give [{size}] or [batch, {size}]"
        )
    return observation


def _numbers(name: str, value: Any) -> np.ndarray:
    """An array of real numbers; raises `InputError` for anything else."""
    try:
        array = np.asarray(value)
        array = array.astype(float) if array.dtype == object else array
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is no array of numbers: {in_a_line(error)}") from error
    if array.dtype.kind not in "biuf" and not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(f"{name} is an array of {array.dtype}: give real numbers")
    return array


def _draw(sample: Any) -> int:
    """The number of a draw; raises `InputError` for what is none."""
    try:
        number = operator.index(0 if sample is None else sample)
    except TypeError:
        number = -1
    if not 0 <= number < 2**63:
        raise InputError(f"sample is {sample!r}: give a whole number from 0 to 2**63 - 1")
    return number


class LearnedModel:
    """The models (p_θ, r_θ) of a run's lanes, NumPy in and out. `run.model` makes it."""

    def __init__(self, run: Run) -> None:
        """Raises `InputError` where the run trains no model."""
        if not run.config.objective.uses_model:
            raise InputError(
                f"objective {run.config.to_dict()['objective']!r} trains no model: train with "
                "another, such as omd"
            )
        self._run = run
        self.spec = run.program.env.spec
        """Sizes and bounds of observations and actions."""

    def predict(
        self, observation: Any, action: Any, *, seed: int | None = None, sample: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(next observation, reward) of a state and an action.

        `observation` is [obs] or [batch, obs], `action` fits it: integers, or floats with a last
        axis [act]. `seed` picks a lane, the first by default. A model of distributions gives the
        mean, or with `sample` a draw by that number. Rewards are NaN where the run knew them
        (reward="known") and so learned none. Raises `InputError` for other shapes.
        """
        observation, action = self._checked(observation, action)
        single = observation.ndim == 1
        with folder.precision(self._run.config):
            prediction = self._predict(
                self._theta(seed),
                jnp.atleast_2d(observation),
                jnp.asarray(action[None] if single else action),
                jax.random.key(_draw(sample)),
            )
        state = np.asarray(prediction.mean if sample is None else prediction.sample)
        reward = np.asarray(prediction.reward)
        return (state[0], np.asarray(reward[0])) if single else (state, reward)

    def rollout(
        self,
        observation: Any,
        steps: int | None = None,
        *,
        actions: Any = None,
        seed: int | None = None,
        sample: int | None = None,
    ) -> Rollout:
        """The model's own trajectory from an observation, [obs] or [batch, obs].

        With `actions`, [steps, ...] or [batch, steps, ...], these are taken; else `steps` most
        probable ones of the trained policy. The model knows no end of an episode. `seed` and
        `sample` as in `predict`. Raises `InputError` unless one of `actions` and `steps` is given.
        """
        if (actions is None) == (steps is None):
            raise InputError("give actions, or a number of steps for those of the policy")
        steps = None if steps is None else parts.count("steps", steps)
        states = [checked_observation(observation, self.spec).astype(self._dtype)]
        time = states[0].ndim - 1
        planned = None
        if actions is not None:
            planned = _numbers("actions", actions)
            if planned.ndim <= time or not planned.shape[time]:
                wanted = "[batch, steps]" if time else "[steps]"
                raise InputError(f"actions has shape {planned.shape}: give one a step, {wanted}")
            planned = np.moveaxis(planned, time, 0)
        taken, rewards = [], []
        for number in range(steps or len(planned)):  # type: ignore[arg-type]
            action = self._run.act(states[-1], seed=seed) if planned is None else planned[number]
            draw = None if sample is None else _draw(sample) % 2**31 * 1_000_003 + number
            state, reward = self.predict(states[-1], action, seed=seed, sample=draw)
            states.append(state)
            taken.append(np.asarray(action))
            rewards.append(reward)
        return Rollout(*(np.stack(one, axis=time) for one in (states, taken, rewards)))

    def as_env(
        self,
        *,
        seed: int | None = None,
        max_episode_steps: int | None = None,
        terminated: Callable[[np.ndarray], bool] | None = None,
    ) -> gymnasium.Env:
        """A Gymnasium environment of the learned dynamics and rewards.

        Episodes begin where those of the true environment begin, and end after
        `max_episode_steps`, by default the true environment's limit. The model knows no other
        end: `terminated` tells one from an observation [obs]. Stochastic models are sampled.
        Raises `InputError` where the run learned no rewards, and where there is no limit.
        """
        from omd.runs.model_env import ModelEnv

        limit = self.spec.max_episode_steps
        if max_episode_steps is not None:
            limit = parts.count("max_episode_steps", max_episode_steps)
        if limit is None:
            raise InputError(f"{self.spec.id} has no time limit: give max_episode_steps")
        if self._run.config.reward == "known":
            raise InputError("this run knew its rewards and learned none: train reward='learned'")
        self._theta(seed)
        return ModelEnv(self, seed, limit, terminated)

    def start(self, number: int) -> np.ndarray:
        """A first observation [obs] of the true environment, drawn by that number."""
        with folder.precision(self._run.config):
            _, observation = self._true.reset(jax.random.key(number)[None])
            return np.asarray(observation[0])

    @property
    def _dtype(self) -> np.dtype:
        return np.dtype(self._run.config.precision)

    @functools.cached_property
    def _true(self) -> envs.Env:
        return folder.make_env(self._run.config, lanes=1)

    def _theta(self, seed: int | None) -> PyTree:
        lane = self._run.lane(seed)
        return jax.tree.map(lambda x: x[lane], self._run.state.agent.theta)

    def _checked(self, observation: Any, action: Any) -> tuple[np.ndarray, np.ndarray]:
        observation = checked_observation(observation, self.spec).astype(self._dtype)
        action = _numbers("action", action)
        wanted = observation.shape[:-1]
        if self.spec.num_actions is None:
            wanted, action = (*wanted, self.spec.action_size), action.astype(self._dtype)
        elif not np.issubdtype(action.dtype, np.integer) or not np.all(
            (action >= 0) & (action < self.spec.num_actions)
        ):
            raise InputError(
                f"action is {action}: give whole numbers from 0 to {self.spec.num_actions - 1}"
            )
        if action.shape != wanted:
            raise InputError(f"action has shape {action.shape}: give {list(wanted)}")
        return observation, action

    @functools.cached_property
    def _predict(self) -> Callable[..., Prediction]:
        model = self._run.program.agent.model

        def predict(theta: PyTree, observation: Array, action: Array, key: Array) -> Prediction:
            unknown = jnp.full(len(observation), jnp.nan, observation.dtype)
            batch = Transition(
                observation, action, unknown, observation, jnp.zeros(len(observation), bool)
            )
            return model.predict(theta, batch, key)

        return jax.jit(predict)
