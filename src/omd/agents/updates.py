"""Optimisers of the networks: how a gradient becomes a step."""

from __future__ import annotations

import abc

import optax
from jax.typing import ArrayLike

from omd.agents.setup import AgentPart
from omd.errors import InputError
from omd.parts import setting


class Optimizer(AgentPart, abc.ABC):
    """Makes the steps of θ, or of the learner's networks.

    One of your own subclasses this one and gives `transformation`; a gradient of zero must leave
    a parameter that is zero as it is, since models of several widths share one program.
    """

    @abc.abstractmethod
    def transformation(self, rate: ArrayLike) -> optax.GradientTransformation:
        """The optimiser at this learning rate, which JAX may trace."""


class Adam(Optimizer):
    """Adam (appendix D)."""

    b1: float = setting(0.9, "Decay of the mean of gradients.", low=0, high=1, open_high=True)
    b2: float = setting(0.999, "Decay of the mean square.", low=0, high=1, open_high=True)
    eps: float = setting(1e-8, "Added to the root of the mean square.", low=0, open_low=True)

    def transformation(self, rate: ArrayLike) -> optax.GradientTransformation:
        return optax.adam(rate, self.b1, self.b2, self.eps)


class AdamW(Adam):
    """Adam, and at each step a share of every parameter, biases too, is taken away."""

    weight_decay: float = setting(1e-4, "Share of a parameter that a step at rate 1 takes.", low=0)

    def transformation(self, rate: ArrayLike) -> optax.GradientTransformation:
        return optax.adamw(rate, self.b1, self.b2, self.eps, weight_decay=self.weight_decay)


class Sgd(Optimizer):
    """Gradient descent."""

    momentum: float = setting(0.0, "Decay of past steps.", low=0, high=1, open_high=True)
    nesterov: bool = setting(False, "Nesterov's form of momentum.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise InputError("nesterov of sgd is true without momentum: give momentum above 0")

    def transformation(self, rate: ArrayLike) -> optax.GradientTransformation:
        return optax.sgd(rate, self.momentum or None, nesterov=self.nesterov)


class RmsProp(Optimizer):
    """RMSProp."""

    decay: float = setting(0.9, "Of the mean square.", low=0, high=1, open_high=True)
    eps: float = setting(1e-8, "Added to the mean square.", low=0, open_low=True)
    momentum: float = setting(0.0, "Decay of past steps.", low=0, high=1, open_high=True)

    def transformation(self, rate: ArrayLike) -> optax.GradientTransformation:
        return optax.rmsprop(rate, self.decay, self.eps, momentum=self.momentum or None)
