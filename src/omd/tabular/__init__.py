"""Tabular MDPs: solve them, differentiate through the solution, design models for control."""

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
from omd.tabular.constructors import from_gymnasium, garnet, grid_world, paper_mdp
from omd.tabular.mdp import MDP
from omd.tabular.successors import Successors

__all__ = [
    "MDP",
    "Successors",
    "bellman",
    "bellman_error",
    "expected_next",
    "from_gymnasium",
    "garnet",
    "greedy_policy",
    "grid_world",
    "hard_bellman",
    "hard_value",
    "lookahead",
    "paper_mdp",
    "soft_bellman",
    "soft_value",
    "softmax_policy",
]
