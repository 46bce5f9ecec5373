"""Agents: model × learner × objective. See the README beside this file."""

from omd.agents.agent import Agent, AgentState, Hyper, build, hyper

__all__ = ["Agent", "AgentState", "Hyper", "build", "hyper"]
