"""Maximum likelihood, eq. (1): the usual way to fit a model, and the baseline."""

from __future__ import annotations

from jaxtyping import Array, Float

from omd.agents.models.model import Prediction
from omd.agents.objectives.fitted import TwoStep
from omd.agents.objectives.objective import AgentState, Context
from omd.types import PyTree, Transition


class Mle(TwoStep):
    """The model's likelihood loss of the next state plus the squared reward error."""

    def fit(
        self,
        theta: PyTree,
        window: list[Transition],
        key: Array,
        state: AgentState,
        context: Context,
    ) -> tuple[Float[Array, ""], Prediction]:
        """The model's own loss: an ensemble fits each of its members."""
        return context.model.likelihood(theta, window[0], key)
