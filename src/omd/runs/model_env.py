"""The learned model behind Gymnasium's interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
import numpy as np

if TYPE_CHECKING:
    from omd.runs.learned_model import LearnedModel


class ModelEnv(gymnasium.Env):
    """Steps of a learned model; `omd.Run.model.as_env` makes it."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(
        self,
        model: LearnedModel,
        seed: int | None,
        max_episode_steps: int,
        terminated: Callable[[np.ndarray], bool] | None,
    ) -> None:
        """`seed` picks the lane whose model it is."""
        spec = model.spec
        self._model, self._lane = model, seed
        self._limit, self._terminated = max_episode_steps, terminated
        self.observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (spec.observation_size,), np.float32
        )
        if spec.num_actions is None:
            low, high = (np.array(x, np.float32) for x in (spec.action_low, spec.action_high))
            self.action_space: gymnasium.Space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        else:
            self.action_space = gymnasium.spaces.Discrete(spec.num_actions)
        self._observation: np.ndarray | None = None
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A first observation [obs] of the true environment, and no information."""
        super().reset(seed=seed)
        self._observation = self._model.start(self._draw()).astype(np.float32)
        self._steps = 0
        return self._observation, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Gymnasium's five: what the model says, and whether the limit is reached."""
        if self._observation is None:
            raise gymnasium.error.ResetNeeded("call reset before step")
        following, reward = self._model.predict(
            self._observation, action, seed=self._lane, sample=self._draw()
        )
        self._observation = following.astype(np.float32)
        self._steps += 1
        ended = self._terminated is not None and bool(self._terminated(self._observation))
        return self._observation, float(reward), ended, self._steps >= self._limit, {}

    def _draw(self) -> int:
        return int(self.np_random.integers(2**31))
