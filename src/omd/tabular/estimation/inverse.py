"""Inverse reinforcement learning by maximum causal entropy, discounted, infinite horizon."""

from __future__ import annotations

import numpy as np

from omd.tabular.estimation.maximum import Estimate, estimate
from omd.tabular.estimation.panel import Panel
from omd.tabular.kernels import Numbers
from omd.tabular.mdp import MDP
from omd.tabular.operators import Scalar
from omd.tabular.parametric import linear_rewards


def learn_reward(
    mdp: MDP,
    features: Numbers,
    panel: Panel,
    *,
    temperature: Scalar = 1.0,
    penalty: Scalar = 0.0,
    theta0: Numbers | None = None,
) -> Estimate:
    """Weights θ of r = φ·θ, features φ[S, A, K], under which a panel's choices are likeliest.

    The soft-optimal policy of a reward that is linear in θ is the policy of maximum causal entropy
    with given discounted feature counts (Ziebart 2010), and θ are the multipliers. The rewards of
    `mdp` are not read. Features that are linear in the states' potentials leave θ undetermined;
    `penalty` · ‖θ‖²/2 decides there. Raises `InputError` for features of another shape and
    observations outside the MDP.
    """
    model = linear_rewards(mdp, features)
    start = np.zeros(np.shape(features)[-1]) if theta0 is None else theta0
    return estimate(model, panel, start, temperature=temperature, penalty=penalty)
