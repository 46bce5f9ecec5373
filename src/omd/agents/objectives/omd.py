"""Optimal model design: eq. (12), its gradient by the implicit function theorem, eq. (13)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from omd.agents.learners.learner import mean_squared
from omd.agents.models.model import Prediction
from omd.agents.objectives.objective import AgentState, Context, Objective, diagnostics
from omd.implicit import LeastSquares, Report
from omd.parts import setting
from omd.types import Metrics, PyTree, Transition


class Found(NamedTuple):
    """What the inner loop and the implicit function theorem give."""

    learner: Any
    """The learner's state after the inner loop."""
    loss: Float[Array, ""]
    """L^true at that w, eq. (11)."""
    gradient: PyTree
    """dL^true/dθ, eq. (13)."""
    prediction: Prediction
    """The model's, on the inner minibatch."""
    info: Metrics


class Omd(Objective):
    """θ descends the true Bellman error, eq. (11), at the w that the inner loop found.

    The constraint h = ∂L(θ, w)/∂w is linear in the targets y(θ), so u·∂h/∂θ needs no second
    derivative: with J = ∂Q/∂w, each target's weight is −2/n Σ_critics (J u), and one product
    with ∂y/∂θ gives the gradient.
    """

    implicit: ClassVar[bool] = True

    start: Literal["warm", "cold"] = setting("warm", "Where the inner loop starts from.")
    constraint_target: Literal["last", "moved"] = setting(
        "last",
        "Target network in the constraint and in eq. (11): that of the last inner step, or the one "
        "after it moved.",
    )
    outer_batch: Literal["same", "fresh"] = setting(
        "same", "Minibatch of the outer loss: that of the last inner step, or a fresh one."
    )
    inner_batch: Literal["same", "fresh"] = setting(
        "same",
        "Minibatch of the K inner steps: one for all, as in the authors' program, or a fresh one "
        "for each, as in algorithm 1.",
    )

    @property
    def minibatches(self) -> int:
        """One, or one for each inner step; and one more where the outer loss has its own."""
        return self._inner_batches + (self.outer_batch == "fresh")

    @property
    def _inner_batches(self) -> int:
        return self.settings.inner_steps if self.inner_batch == "fresh" else 1

    def update(
        self, state: AgentState, batches: list[Transition], context: Context
    ) -> tuple[AgentState, Metrics]:
        """K inner steps of the learner, then one step of θ along eq. (13)."""
        found = self.model_gradient(state, batches, context)
        return (
            context.descend(state._replace(learner=found.learner), found.gradient),
            diagnostics(
                found.loss,
                found.gradient,
                found.prediction,
                batches[self._inner_batches - 1],
                found.info,
            ),
        )

    def model_gradient(
        self, state: AgentState, batches: list[Transition], context: Context
    ) -> Found:
        """K inner steps of the learner, and the gradient of eq. (13)."""
        earlier_batches, inner = (
            batches[: self._inner_batches - 1],
            batches[self._inner_batches - 1],
        )
        outer = batches[-1]
        hyper, key, learner = context.hyper, context.key, state.learner
        if self.start == "cold":
            learner = context.learner.restart(learner, jax.random.fold_in(key, 1), hyper)
        learner = context.begin_inner_loop(learner)

        def made(theta):
            prediction = context.predict(theta, inner)
            return (prediction.reward, prediction.sample), prediction

        model_made, pull_to_theta, prediction = jax.vjp(made, state.theta, has_aux=True)

        def targets(target, made, key, batch=inner):
            reward, next_observation = made
            return context.learner.targets(target, reward, next_observation, batch, hyper, key)

        def inner_step(learner, key):
            y = targets(learner.target, model_made, key)
            return context.learner.step(learner, y, inner, hyper, key)

        def fresh_step(learner, drawn):
            key, batch = drawn
            predicted = context.predict(state.theta, batch, jax.random.fold_in(key, 0))
            y = targets(learner.target, (predicted.reward, predicted.sample), key, batch)
            return context.learner.step(learner, y, batch, hyper, key)

        keys = self.inner_keys(key)
        earlier, last = keys[:-1], keys[-1]
        if earlier_batches:
            stacked = jax.tree.map(lambda *x: jnp.stack(x), *earlier_batches)
            learner, _ = jax.lax.scan(fresh_step, learner, (earlier, stacked))
        elif len(earlier):
            learner, _ = jax.lax.scan(inner_step, learner, earlier)
        target = learner.target
        y, pull_to_made = jax.vjp(lambda made: targets(target, made, last), model_made)
        learner, info = context.learner.step(learner, y, inner, hyper, last)
        if self.constraint_target == "moved":
            target = learner.target
            y, pull_to_made = jax.vjp(lambda made: targets(target, made, last), model_made)

        loss, g = self.outer_gradient(learner.w, target, outer, context, last)
        weights, report = self.target_weights(learner.w, y, g, inner, context)
        (gradient,) = pull_to_theta(*pull_to_made(weights))
        info |= {
            "solve_residual": report.residual,
            "solve_iterations": report.iterations.astype(loss.dtype),
            "solve_status": report.status.astype(loss.dtype),
            "solve_failed": report.failed.astype(loss.dtype),
        }
        return Found(learner, loss, gradient, prediction, info)

    def outer_gradient(
        self, w: PyTree, target: PyTree, batch: Transition, context: Context, key: Array
    ) -> tuple[Array, PyTree]:
        """L^true(w), eq. (11), and g = ∂L^true/∂w. `key` is that of the last inner step: model-made
        and true targets differ by the model alone, not by the draw of a'."""
        y = context.learner.targets(
            target, batch.reward, batch.next_observation, batch, context.hyper, key
        )
        return jax.value_and_grad(lambda w: mean_squared(context.learner.predictions(w, batch), y))(
            w
        )

    def jacobian(
        self, w: PyTree, y: Float[Array, " batch"], batch: Transition, context: Context
    ) -> LeastSquares:
        """∂h/∂w, the Hessian of eq. (10) in w at fixed targets. A critic is a block; residuals
        are √(2/n) (Q − y) with n the number of critics times the minibatch."""
        root = (2 / (context.learner.critics * y.size)) ** 0.5

        def constraint(w):
            return jax.grad(lambda w: mean_squared(context.learner.predictions(w, batch), y))(w)

        def residuals(w):
            return root * context.learner.predictions(w, batch)

        return LeastSquares(
            product=lambda v: jax.jvp(constraint, (w,), (v,))[1],
            push=lambda v: jax.jvp(residuals, (w,), (v,))[1],
            pull=lambda z: jax.vjp(residuals, w)[1](z)[0],
            gram=lambda: root**2 * context.learner.tangent_kernels(w, batch),
        )

    def target_weights(
        self,
        w: PyTree,
        y: Float[Array, " batch"],
        g: PyTree,
        batch: Transition,
        context: Context,
    ) -> tuple[Float[Array, " batch"], Report]:
        """∂(−u·h)/∂y for each target y of the minibatch, with u from (∂h/∂w) u = g."""
        image, report = context.method.image(self.jacobian(w, y, batch, context), g)
        # a residual is √(2/n) (Q − y)
        return jnp.sum(image, axis=0) * (2 / image.size) ** 0.5, report
