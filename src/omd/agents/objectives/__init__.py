"""What the model is trained for: one file an objective, all behind `Objective`."""

from omd.agents.objectives.mle import Mle
from omd.agents.objectives.none import ModelFree
from omd.agents.objectives.objective import AgentState, Objective
from omd.agents.objectives.omd import Omd
from omd.agents.objectives.vep import Vep

OBJECTIVES: dict[str, type[Objective]] = {"omd": Omd, "mle": Mle, "vep": Vep, "none": ModelFree}

__all__ = ["OBJECTIVES", "AgentState", "Mle", "ModelFree", "Objective", "Omd", "Vep"]
