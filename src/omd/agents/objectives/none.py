"""No model: the learner trains on true transitions. Plain soft Q-learning, plain SAC."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Array

from omd.agents.objectives.objective import AgentState, Context, Objective
from omd.types import Metrics, PyTree, Transition


class ModelFree(Objective):
    """K inner steps, each on a fresh minibatch."""

    uses_model: ClassVar[bool] = False

    @property
    def minibatches(self) -> int:
        """One for each inner step."""
        return self.settings.inner_steps

    def init_model(self, key: Array, context: Context) -> tuple[PyTree, PyTree]:
        """Nothing."""
        return (), ()

    def update(
        self, state: AgentState, batches: list[Transition], context: Context
    ) -> tuple[AgentState, Metrics]:
        """K steps of the learner on the true rewards and next states."""
        keys = self.inner_keys(context.key)
        learner, info = context.inner_loop(context.step_as_stored, state.learner, batches, keys)
        return state._replace(learner=learner), info
