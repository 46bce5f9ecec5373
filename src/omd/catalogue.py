"""Every part that ships: its name, its purpose in a line, where its class is. The only list of
their names: help, checks, reports and figures read it. Imports nothing, least of all JAX."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """One part of the catalogue."""

    kind: str
    name: str
    purpose: str
    where: str
    """`package.module:Class`."""
    label: str
    """What titles and legends call it."""
    defaults: Mapping[str, Any] = MappingProxyType({})
    """Of a learner: what it sets of `Config`'s settings that were left open."""
    implicit_defaults: Mapping[str, Any] = MappingProxyType({})
    """The same for objectives that differentiate through the inner problem, on top of those."""
    needs: str = ""
    """Of an objective: what it asks of learner, model and data."""
    source: str = ""
    """Where it comes from."""


BASES = {
    "objective": "omd.agents.objectives.objective:Objective",
    "learner": "omd.agents.learners.learner:Learner",
    "model": "omd.agents.models.model:Model",
    "hypergradient": "omd.implicit.methods:AbstractMethod",
    "optimizer": "omd.agents.updates:Optimizer",
}
"""The kinds of part, each with the class that its parts subclass."""

_SOFT_Q = {  # appendix D, but for the rates and Adam's moments
    "steps": 200_000,
    "learning_rate": 1e-4,
    "inner_learning_rate": 1e-3,
    "tau": 0.01,
    "temperature": 0.01,
    "epsilon": 0.1,
    "hidden": 32,
    "model_hidden": 32,
    "random_steps": 1000,
    "model_network": "separate",
    "hypergradient": "identity",
    "inner_optimizer": "keep",
    "evaluate_every": 1000,
}
_SAC = {  # appendix F
    "steps": 1_000_000,
    "learning_rate": 3e-4,
    "inner_learning_rate": 3e-4,
    "tau": 0.005,
    "temperature": 1.0,
    "epsilon": 0.0,
    "hidden": 256,
    "model_hidden": 64,
    "random_steps": 10_000,
    "model_network": "joint",
    "hypergradient": "identity",
    "inner_optimizer": "auto",
    "evaluate_every": 5000,
}
_SAC_IMPLICIT = {"hypergradient": "gauss-newton:damping=1e-3", "inner_learning_rate": 1e-3}

_PARTS = (
    Entry(
        "objective",
        "omd",
        "the true Bellman error, through the optimal Q-function (eq. 12, 13)",
        "omd.agents.objectives.omd:Omd",
        "OMD",
        needs="critics",
        source="Nikishin et al. 2021, eq. (12) and (13)",
    ),
    Entry(
        "objective",
        "mle",
        "likelihood of next states and rewards (eq. 1)",
        "omd.agents.objectives.mle:Mle",
        "MLE",
        needs="nothing of the learner",
        source="eq. (1) of Nikishin et al. 2021",
    ),
    Entry(
        "objective",
        "vep",
        "values of random value functions at the next state (eq. 14)",
        "omd.agents.objectives.vep:Vep",
        "VEP",
        needs="a model that predicts one state",
        source="Grimm et al. 2020; appendix D",
    ),
    Entry(
        "objective",
        "none",
        "nothing: no model, the learner trains on true transitions",
        "omd.agents.objectives.none:ModelFree",
        "no model",
        needs="nothing of a model",
        source="Haarnoja et al. 2017 (soft Q-learning), 2018 (SAC)",
    ),
    Entry(
        "objective",
        "vagram",
        "squared errors weighted by the gradient of the value",
        "omd.agents.objectives.vagram:Vagram",
        "VaGraM",
        needs="critics, the policy's actions",
        source="Voelcker et al. 2022",
    ),
    Entry(
        "objective",
        "vaml",
        "values after m model steps against b Bellman backups",
        "omd.agents.objectives.vaml:Vaml",
        "VAML",
        needs="values, m + b transitions in a row, samples of a stochastic model if calibrated",
        source="Farahmand 2018; Schrittwieser et al. 2020 (b ≥ 1); Voelcker et al. 2025",
    ),
    Entry(
        "objective",
        "paml",
        "policy gradients at true and at model-made next states",
        "omd.agents.objectives.paml:Paml",
        "PAML",
        needs="critics, a policy with parameters",
        source="Abachi et al. 2020",
    ),
    Entry(
        "objective",
        "self-prediction",
        "next states seen through an encoder that learns as well",
        "omd.agents.objectives.self_prediction:SelfPrediction",
        "self-prediction",
        needs="nothing of the learner, or what the objective beside it needs",
        source="Grill et al. 2020; Schwarzer et al. 2021",
    ),
    Entry(
        "objective",
        "taskmet",
        "a likelihood whose weights learn through the model's fit",
        "omd.agents.objectives.taskmet:TaskMet",
        "TaskMet",
        needs="critics; second derivatives of the model",
        source="Bansal et al. 2023",
    ),
    Entry(
        "learner",
        "soft-q",
        "soft Q-learning for discrete actions (eq. 3, appendix D)",
        "omd.agents.learners.soft_q:SoftQ",
        "soft Q-learning",
        _SOFT_Q,
    ),
    Entry(
        "learner",
        "sac",
        "soft actor-critic for continuous actions (appendix F)",
        "omd.agents.learners.sac:Sac",
        "SAC",
        _SAC,
        _SAC_IMPLICIT,
    ),
    Entry(
        "model",
        "deterministic",
        "one predicted next state, by a network of two hidden layers",
        "omd.agents.models.mlp:Deterministic",
        "deterministic",
    ),
    Entry(
        "model",
        "gaussian",
        "mean and standard deviation of each dimension of the next state",
        "omd.agents.models.mlp:Gaussian",
        "Gaussian",
    ),
    Entry(
        "model",
        "ensemble",
        "Gaussian networks with elites and normalised data, for likelihood",
        "omd.agents.models.ensemble:Ensemble",
        "ensemble",
        needs="objective mle to train each member by itself",
        source="Chua et al. 2018; Janner et al. 2019",
    ),
    Entry(
        "hypergradient",
        "identity",
        "the identity instead of the inverse Jacobian (section 6)",
        "omd.implicit.methods:Identity",
        "identity",
    ),
    Entry(
        "hypergradient",
        "neumann",
        "a truncated Neumann series",
        "omd.implicit.methods:Neumann",
        "Neumann series",
    ),
    Entry(
        "hypergradient",
        "cg",
        "conjugate gradient, for symmetric positive definite Jacobians",
        "omd.implicit.iterative:CG",
        "CG",
    ),
    Entry(
        "hypergradient",
        "normal-cg",
        "conjugate gradient on the normal equations: any Jacobian",
        "omd.implicit.iterative:NormalCG",
        "normal CG",
    ),
    Entry(
        "hypergradient",
        "gmres",
        "restarted GMRES: any Jacobian that isn't singular",
        "omd.implicit.iterative:GMRES",
        "GMRES",
    ),
    Entry(
        "hypergradient",
        "nystrom",
        "a low-rank inverse, for symmetric Jacobians",
        "omd.implicit.methods:Nystrom",
        "Nyström",
    ),
    Entry(
        "hypergradient",
        "gauss-newton",
        "damped inverse for least squares, by a solve in samples",
        "omd.implicit.gauss_newton:GaussNewton",
        "Gauss–Newton",
    ),
    Entry(
        "hypergradient",
        "dense",
        "LU of the whole Jacobian: small problems, and as a reference",
        "omd.implicit.direct:Dense",
        "dense",
    ),
    Entry(
        "hypergradient",
        "pseudo-inverse",
        "least squares of minimum norm (appendix E)",
        "omd.implicit.direct:PseudoInverse",
        "pseudo-inverse",
    ),
    Entry(
        "optimizer",
        "adam",
        "Adam (appendix D)",
        "omd.agents.updates:Adam",
        "Adam",
    ),
    Entry(
        "optimizer",
        "adamw",
        "Adam with decay of all parameters",
        "omd.agents.updates:AdamW",
        "AdamW",
    ),
    Entry(
        "optimizer",
        "sgd",
        "gradient descent, with momentum if wanted",
        "omd.agents.updates:Sgd",
        "SGD",
    ),
    Entry(
        "optimizer",
        "rmsprop",
        "steps divided by the root of a mean square",
        "omd.agents.updates:RmsProp",
        "RMSProp",
    ),
)


def entries(kind: str) -> dict[str, Entry]:
    """The parts of one kind by name, in the order in which they are shown."""
    return {one.name: one for one in _PARTS if one.kind == kind}


def names(kind: str) -> tuple[str, ...]:
    """Names of the parts of one kind."""
    return tuple(entries(kind))


def name_at(where: str) -> str | None:
    """The name of the shipped part whose class is `package.module:Class`, if there is one."""
    return next((one.name for one in _PARTS if one.where == where), None)
