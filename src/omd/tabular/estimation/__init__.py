"""Structural estimation: parameters of an MDP from the choices of those who live in it."""

from omd.tabular.estimation.inference import Interval, delta_interval
from omd.tabular.estimation.inverse import learn_reward
from omd.tabular.estimation.likelihood import log_likelihood, log_policy, scores
from omd.tabular.estimation.maximum import Estimate, estimate
from omd.tabular.estimation.mixture import Mixture, estimate_mixture
from omd.tabular.estimation.optimizers import Optax, Optimistix, Optimizer, SciPy
from omd.tabular.estimation.panel import Panel, simulate
from omd.tabular.estimation.replacement import TABLE_IX, bus_engine, increments

__all__ = [
    "TABLE_IX",
    "Estimate",
    "Interval",
    "Mixture",
    "Optax",
    "Optimistix",
    "Optimizer",
    "Panel",
    "SciPy",
    "bus_engine",
    "delta_interval",
    "estimate",
    "estimate_mixture",
    "increments",
    "learn_reward",
    "log_likelihood",
    "log_policy",
    "scores",
    "simulate",
]
