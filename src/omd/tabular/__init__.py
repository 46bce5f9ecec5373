"""Tabular MDPs: solve them, differentiate through the solution, design models for control."""

from omd.tabular.adjoint import Sweeps
from omd.tabular.bellman import (
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
from omd.tabular.bounds import (
    Bound,
    Equivalence,
    ModelError,
    lemma_1,
    model_error,
    proposition_1,
    theorem_2_mle,
    theorem_2_omd,
)
from omd.tabular.constructors import from_gymnasium, garnet, grid_world, paper_mdp
from omd.tabular.mdp import MDP
from omd.tabular.solve import Solution, Status, evaluate, expected_return, solve
from omd.tabular.successors import Successors

__all__ = [
    "MDP",
    "Bound",
    "Equivalence",
    "ModelError",
    "Solution",
    "Status",
    "Successors",
    "Sweeps",
    "bellman",
    "bellman_error",
    "evaluate",
    "expected_next",
    "expected_return",
    "from_gymnasium",
    "garnet",
    "greedy_policy",
    "grid_world",
    "hard_bellman",
    "hard_value",
    "lemma_1",
    "lookahead",
    "model_error",
    "paper_mdp",
    "proposition_1",
    "soft_bellman",
    "soft_value",
    "softmax_policy",
    "solve",
    "theorem_2_mle",
    "theorem_2_omd",
]
