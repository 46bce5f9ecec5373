"""Model design for tabular MDPs, section 4 of the paper: OMD, MLE on a ball, the saddle point,
and the bounds of section 5."""

from omd.tabular.design.descent import ADAM, Designed, descend, uniform_starts
from omd.tabular.design.formulation import (
    BELLMAN_ERROR,
    LIKELIHOOD,
    RETURN,
    Design,
    Objective,
    bellman_constraint,
    gradient_constraint,
)
from omd.tabular.design.lagrangian import Saddle, find_saddle
from omd.tabular.design.parallel import Lanes
from omd.tabular.design.projection import Model, Projection, ball, reference
from omd.tabular.design.stationary import Stationary, find_stationary, spread_starts
from omd.tabular.design.theory import (
    Bound,
    Equivalence,
    ModelError,
    lemma_1,
    model_error,
    proposition_1,
    theorem_2_mle,
    theorem_2_omd,
)

__all__ = [
    "ADAM",
    "BELLMAN_ERROR",
    "LIKELIHOOD",
    "RETURN",
    "Bound",
    "Design",
    "Designed",
    "Equivalence",
    "Lanes",
    "Model",
    "ModelError",
    "Objective",
    "Projection",
    "Saddle",
    "Stationary",
    "ball",
    "bellman_constraint",
    "descend",
    "find_saddle",
    "find_stationary",
    "gradient_constraint",
    "lemma_1",
    "model_error",
    "proposition_1",
    "reference",
    "spread_starts",
    "theorem_2_mle",
    "theorem_2_omd",
    "uniform_starts",
]
