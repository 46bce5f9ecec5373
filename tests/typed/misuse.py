"""Mistakes that the type checker must find. `make lint` checks this file, nothing runs it: mypy
complains about an ignored error that is none, so each line here is a test."""

import omd
from omd import agents, implicit, tabular
from omd.agents.learners.soft_q import SoftQ
from omd.agents.objectives.vep import Vep


def misspelt_settings() -> None:
    implicit.CG(dampin=1)  # type: ignore[call-arg]
    Vep(value=3)  # type: ignore[call-arg]
    omd.Config(env="CartPole-v1", step=3)  # type: ignore[call-arg]


def values_of_another_type() -> None:
    implicit.CG(damping="1e-3")  # type: ignore[arg-type]
    implicit.Neumann(terms=[1])  # type: ignore[arg-type]


def modes_that_there_are_not(mdp: tabular.MDP) -> None:
    SoftQ(operator="sfot")  # type: ignore[arg-type]
    tabular.solve(mdp, method="newtn")  # type: ignore[arg-type]
    omd.sweep("quick-figure-4", engine="clowd")  # type: ignore[arg-type]


def names_that_there_are_not() -> None:
    implicit.ConjugateGradient  # type: ignore[attr-defined]  # noqa: B018
    agents.Objectiv  # type: ignore[attr-defined]  # noqa: B018
