"""Weights of the likelihood, learned through two nested implicit functions."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from omd import implicit
from omd.agents import networks
from omd.agents.models.model import Prediction
from omd.agents.objectives.objective import AgentState, Context, diagnostics
from omd.agents.objectives.omd import Omd
from omd.implicit import Report
from omd.parts import setting
from omd.types import Metrics, PyTree, Transition


class Weights(NamedTuple):
    """What the objective keeps."""

    phi: PyTree
    """Parameters of the weights."""
    moments: PyTree
    """Adam's, for φ."""


class TaskMet(Omd):
    """θ descends a weighted likelihood loss; its weights φ descend the true Bellman error of eq.
    (11), at the w that the inner loop found for the model that these weights fit.

    Two nested implicit functions: w*(θ), eq. (12) and (13), gives g = ∂L^true/∂θ as for OMD; the
    model's fit θ*(φ), with ∂L_fit(θ, φ)/∂θ = 0, gives dL^true/dφ = −g (∂²L_fit/∂θ²)⁻¹ ∂²L_fit/∂θ∂φ.
    The weights are positive with mean 1: of the dimensions of the next state and the reward, or of
    the minibatch's samples.

    Sources: Bansal, Chen, Mukadam, Amos, "TaskMet: task-driven metric learning for model learning"
    (2023), for the metric; per-sample weights are the same with a network of (s, a).
    """

    over: Literal["dimensions", "samples"] = setting(
        "dimensions", "What has weights: dimensions of the next state and the reward, or samples."
    )
    inverse: Literal["normal-cg", "identity"] = setting(
        "normal-cg", "How the inverse of the fit's Hessian is applied."
    )
    damping: float = setting(1e-3, "Of normal-cg.", low=0)
    products: int = setting(5, "Iterations of normal-cg, two products each.", low=1, high=10_000)

    @property
    def minibatches(self) -> int:
        """OMD's, and one for each model step."""
        return super().minibatches + self.settings.model_steps

    @property
    def fit_method(self) -> implicit.AbstractMethod:
        """What applies the inverse of the fit's Hessian."""
        if self.inverse == "identity":
            return implicit.Identity()
        return implicit.NormalCG(damping=self.damping, max_steps=self.products)

    def init_constants(self, key: Array, context: Context) -> Weights:
        """Weights that are all 1 (of samples: nearly)."""
        size = self.spec.observation_size
        phi: PyTree = jnp.zeros(size + 1, self.dtype)
        if self.over == "samples":
            inputs = size + (self.spec.num_actions or self.spec.action_size or 0)
            phi = networks.orthogonal_mlp(
                key,
                inputs,
                1,
                self.settings.hidden,
                self.dtype,
                activation=self.settings.activation,
            )
        return Weights(phi, context.optimizer.init(phi))

    def fit_loss(
        self, theta: PyTree, phi: PyTree, batch: Transition, context: Context, key: Array
    ) -> tuple[Float[Array, ""], Prediction]:
        """L_fit(θ, φ): the weighted likelihood loss of next states and rewards."""
        prediction = context.predict(theta, batch, key)
        errors = context.model.state_errors(prediction, batch)
        reward = jnp.square(prediction.reward - batch.reward)
        if self.over == "dimensions":
            weights = jax.nn.softmax(phi) * phi.size
            total = errors @ weights[:-1] + weights[-1] * reward
        else:
            scores = networks.apply(phi, context.model.inputs(batch))[0]
            weights = jax.nn.softmax(scores) * scores.size
            total = weights * (jnp.sum(errors, axis=1) + reward)
        return jnp.mean(total), prediction

    def weight_gradient(
        self,
        g: PyTree,
        theta: PyTree,
        phi: PyTree,
        batch: Transition,
        context: Context,
        key: Array,
    ) -> tuple[PyTree, Report]:
        """dJ/dφ through θ*(φ), from g = ∂J/∂θ."""

        def constraint(theta, phi):
            return jax.grad(lambda t: self.fit_loss(t, phi, batch, context, key)[0])(theta)

        def along(theta, phi):
            return jnp.asarray(optax.tree.vdot(g, theta))

        return implicit.hypergradient(
            along, constraint, theta, phi, method=self.fit_method, throw=False
        )

    def update(
        self, state: AgentState, batches: list[Transition], context: Context
    ) -> tuple[AgentState, Metrics]:
        """K inner steps, a step of φ, and `model_steps` steps of θ on the weighted likelihood."""
        count = super().minibatches
        fits = batches[count:]
        keys = jax.random.split(jax.random.fold_in(context.key, 3), len(fits))
        found = self.model_gradient(state, batches[:count], context)
        phi, moments = state.constants
        gradient, report = self.weight_gradient(
            found.gradient, state.theta, phi, fits[0], context, keys[0]
        )
        updates, moments = context.optimizer.update(gradient, moments, phi)
        phi = optax.apply_updates(phi, updates)
        state = state._replace(learner=found.learner, constants=Weights(phi, moments))
        for batch, key in zip(fits, keys, strict=True):
            (_, prediction), descent = jax.value_and_grad(self.fit_loss, has_aux=True)(
                state.theta, phi, batch, context, key
            )
            state = context.descend(state, descent)
        info = found.info | {
            "fit_solve_residual": report.residual.astype(found.loss.dtype),
            "solve_failed": jnp.maximum(found.info["solve_failed"], report.failed),
        }
        return state, diagnostics(found.loss, gradient, prediction, batch, info)
