"""Tabular MDPs: solve them, differentiate through the solution, estimate and design models."""

from omd.tabular import estimation
from omd.tabular.adjoint import Sweeps
from omd.tabular.constructors import (
    from_callables,
    from_csr,
    from_gymnasium,
    garnet,
    grid_world,
    paper_mdp,
    with_distractors,
)
from omd.tabular.design.descent import Designed, descend, uniform_starts
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
from omd.tabular.design.projection import Model
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
from omd.tabular.finite import FiniteSolution, solve_finite
from omd.tabular.kernels import Factored, Kernel, Rows, Successors
from omd.tabular.mdp import MDP
from omd.tabular.operators import (
    bellman,
    bellman_error,
    expected_next,
    greedy_policy,
    hard_bellman,
    hard_value,
    lookahead,
    soft_bellman,
    soft_value,
    softmax_policy,
)
from omd.tabular.parametric import Parametrised, linear_rewards
from omd.tabular.solvers import Solution, Status, evaluate, expected_return, solve

__all__ = [
    "BELLMAN_ERROR",
    "LIKELIHOOD",
    "MDP",
    "RETURN",
    "Bound",
    "Design",
    "Designed",
    "Equivalence",
    "Factored",
    "FiniteSolution",
    "Kernel",
    "Lanes",
    "Model",
    "ModelError",
    "Objective",
    "Parametrised",
    "Rows",
    "Saddle",
    "Solution",
    "Stationary",
    "Status",
    "Successors",
    "Sweeps",
    "bellman",
    "bellman_constraint",
    "bellman_error",
    "descend",
    "estimation",
    "evaluate",
    "expected_next",
    "expected_return",
    "find_saddle",
    "find_stationary",
    "from_callables",
    "from_csr",
    "from_gymnasium",
    "garnet",
    "gradient_constraint",
    "greedy_policy",
    "grid_world",
    "hard_bellman",
    "hard_value",
    "lemma_1",
    "linear_rewards",
    "lookahead",
    "model_error",
    "paper_mdp",
    "proposition_1",
    "soft_bellman",
    "soft_value",
    "softmax_policy",
    "solve",
    "solve_finite",
    "spread_starts",
    "theorem_2_mle",
    "theorem_2_omd",
    "uniform_starts",
    "with_distractors",
]
