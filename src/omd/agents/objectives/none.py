"""No model: the learner trains on true transitions. Plain soft Q-learning, plain SAC."""

from __future__ import annotations

import optax
from jaxtyping import Array

from omd.agents.learners.learner import Hyper
from omd.agents.objectives.objective import AgentState, Objective
from omd.types import Metrics, PyTree, Transition


class ModelFree(Objective):
    """K inner steps, each on a fresh minibatch."""

    @property
    def minibatches(self) -> int:
        return self.inner_steps

    def init_model(self, key: Array, hyper: Hyper) -> tuple[PyTree, optax.OptState]:
        return (), ()

    def update(
        self, state: AgentState, batches: list[Transition], key: Array, hyper: Hyper
    ) -> tuple[AgentState, Metrics]:
        def inner_step(learner, batch, key):
            y = self.learner.targets(
                learner.target, batch.reward, batch.next_observation, batch, hyper, key
            )
            return self.learner.step(learner, y, batch, hyper, key)

        learner, info = self.inner_loop(inner_step, state.learner, batches, self.inner_keys(key))
        return state._replace(learner=learner), info
