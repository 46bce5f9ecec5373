"""Latent self-prediction: the model's next state, seen through an encoder that learns with it."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from omd import parts
from omd.agents import networks
from omd.agents.learners.learner import moving_average
from omd.agents.models.model import Prediction, reward_error
from omd.agents.objectives.fitted import Fitted
from omd.agents.objectives.objective import AgentState, Context, Objective
from omd.errors import InputError
from omd.parts import setting
from omd.settings import Settings
from omd.types import Metrics, PyTree, Transition

ALONE = "none"


class Latent(NamedTuple):
    """What the objective keeps."""

    encoder: networks.Mlp
    target: networks.Mlp
    """The encoder's moving average."""
    moments: PyTree
    """Adam's, for the encoder."""
    beside: PyTree
    """What the objective beside this one keeps."""


class RewardOnly(Fitted):
    """The squared reward error alone: what is left beside self-prediction."""

    def loss(
        self, prediction: Prediction, batch: Transition, state: AgentState, context: Context
    ) -> Float[Array, ""]:
        """The squared reward error, 0 where rewards are known."""
        return reward_error(prediction, batch) if context.model.learned_reward else jnp.zeros(())


@dataclasses.dataclass(frozen=True)
class _Helped(Context):
    """A context whose steps of θ also descend the self-prediction."""

    help: Any

    def descend(self, state: AgentState, gradient: PyTree) -> AgentState:
        more = self.help(state.theta)
        return super().descend(state, jax.tree.map(jnp.add, gradient, more))


class SelfPrediction(Objective):
    """‖e(ŝ')/|e(ŝ')| − ē(s')/|ē(s')|‖², mean over the minibatch: the encoder e of the model's next
    state against its moving average ē, a constant, at the true one. e learns with the model, at
    the model's rate, ē follows at rate τ. Alone it comes with the squared reward error; else its
    gradient is added to that of the objective `beside` it, on the update's first minibatch.

    Sources: Grill et al., "Bootstrap your own latent" (2020), for the loss; Schwarzer et al.,
    "Data-efficient reinforcement learning with self-predictive representations" (2021), for
    predicting the next state with it. Unlike these the learner still sees states, not latents.
    """

    latent: int = setting(16, "Numbers that the encoder gives.", low=2, high=10_000)
    weight: float = setting(1.0, "Of the self-prediction.", low=0, open_low=True)
    beside: str = setting(ALONE, "The objective that it is added to, with its default settings.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beside != ALONE:
            other = parts.part_of("objective", self.beside)
            if isinstance(other, SelfPrediction) or not other.uses_model:
                raise InputError(
                    f"beside of objective 'self-prediction' is {self.beside!r}: give an objective "
                    "that trains the model in another way, such as mle or omd"
                )

    @property
    def other(self) -> Objective:
        """The objective beside this one."""
        if self.beside == ALONE:
            return RewardOnly()
        return parts.part_of("objective", self.beside)

    @property
    def implicit(self) -> bool:  # type: ignore[override]
        """That of the objective beside this one."""
        return self.other.implicit

    @property
    def rolls_out(self) -> bool:  # type: ignore[override]
        """That of the objective beside this one."""
        return self.other.rolls_out

    @property
    def window(self) -> int:
        """That of the objective beside this one."""
        return self.other.window

    @property
    def minibatches(self) -> int:
        """Those of the objective beside this one."""
        return self.other.bound(self.setup).minibatches

    def check(self, settings: Settings) -> None:
        """Raises `InputError` where the objective beside this one can't work."""
        super().check(settings)
        self.other.check(settings)

    def init_constants(self, key: Array, context: Context) -> Latent:
        """The encoder, and what the other objective keeps."""
        keys = jax.random.split(key)
        sizes = (self.spec.observation_size, self.latent, self.settings.hidden)
        encoder = networks.orthogonal_mlp(
            keys[0], *sizes, dtype=self.dtype, activation=self.settings.activation
        )
        beside = self.other.bound(self.setup).init_constants(keys[1], context)
        return Latent(encoder, encoder, context.optimizer.init(encoder), beside)

    def distance(
        self,
        encoder: networks.Mlp,
        target: networks.Mlp,
        prediction: Prediction,
        batch: Transition,
    ) -> Float[Array, ""]:
        """The loss of the self-prediction, between 0 and 4."""
        made = _unit(networks.apply(encoder, prediction.sample.T))
        true = _unit(networks.apply(target, batch.next_observation.T))
        return jnp.mean(jnp.sum(jnp.square(made - jax.lax.stop_gradient(true)), axis=0))

    def update(
        self, state: AgentState, batches: list[Transition], context: Context
    ) -> tuple[AgentState, Metrics]:
        """The other objective's update with θ's gradient helped, and a step of the encoder."""
        latent, batch = state.constants, batches[0]

        def loss(theta, encoder):
            prediction = context.predict(theta, batch)
            return self.weight * self.distance(encoder, latent.target, prediction, batch)

        value, gradient = jax.value_and_grad(loss, 1)(state.theta, latent.encoder)
        fields = {f.name: getattr(context, f.name) for f in dataclasses.fields(context)}
        helped = _Helped(**fields, help=lambda theta: jax.grad(loss)(theta, latent.encoder))
        other = self.other.bound(self.setup)
        after, info = other.update(state._replace(constants=latent.beside), batches, helped)
        updates, moments = context.optimizer.update(gradient, latent.moments, latent.encoder)
        encoder = optax.apply_updates(latent.encoder, updates)
        target = moving_average(latent.target, encoder, context.hyper.tau)
        kept = Latent(encoder, target, moments, after.constants)
        return after._replace(constants=kept), info | {"self_prediction_loss": value}


def _unit(x: Float[Array, "latent batch"]) -> Float[Array, "latent batch"]:
    """Each column at length 1; one of length 0 stays near it."""
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=0) + jnp.finfo(x.dtype).tiny ** 0.5)
