"""Optimal model design: eq. (12), its gradient by the implicit function theorem, eq. (13)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from omd.agents.learners.learner import Hyper, mean_squared
from omd.agents.objectives.objective import AgentState, Objective, diagnostics
from omd.implicit import LeastSquares, Report
from omd.types import Metrics, PyTree, Transition


class Omd(Objective):
    """θ descends the true Bellman error, eq. (11), at the w that the inner loop found.

    The constraint h = ∂L(θ, w)/∂w is linear in the targets y(θ), so u·∂h/∂θ needs no second
    derivative: with J = ∂Q/∂w, each target's weight is −2/n Σ_critics (J u), and one product
    with ∂y/∂θ gives the gradient.
    """

    @property
    def minibatches(self) -> int:
        return 2 if self.fresh_outer_batch else 1

    def update(
        self, state: AgentState, batches: list[Transition], key: Array, hyper: Hyper
    ) -> tuple[AgentState, Metrics]:
        inner, outer = batches[0], batches[-1]
        learner = state.learner
        if self.cold_start:
            learner = self.learner.restart(learner, jax.random.fold_in(key, 1), hyper)
        learner = self.begin_inner_loop(learner)

        def made(theta):
            prediction = self.predict(theta, inner, key)
            return (prediction.reward, prediction.sample), prediction

        model_made, pull_to_theta, prediction = jax.vjp(made, state.theta, has_aux=True)

        def targets(target, made, key):
            reward, next_observation = made
            return self.learner.targets(target, reward, next_observation, inner, hyper, key)

        def inner_step(learner, key):
            y = targets(learner.target, model_made, key)
            return self.learner.step(learner, y, inner, hyper, key)

        *earlier, last = self.inner_keys(key)
        if earlier:
            learner, _ = jax.lax.scan(inner_step, learner, jnp.stack(earlier))
        target = learner.target
        y, pull_to_made = jax.vjp(lambda made: targets(target, made, last), model_made)
        learner, info = self.learner.step(learner, y, inner, hyper, last)
        if self.constraint_target == "moved":
            target = learner.target
            y, pull_to_made = jax.vjp(lambda made: targets(target, made, last), model_made)

        loss, g = self.outer_gradient(learner.w, target, outer, hyper, last)
        weights, report = self.target_weights(learner.w, y, g, inner)
        (gradient,) = pull_to_theta(*pull_to_made(weights))
        theta, moments = self.descend(state, gradient, hyper)
        info |= {
            "solve_residual": report.residual,
            "solve_iterations": report.iterations.astype(loss.dtype),
            "solve_status": report.status.astype(loss.dtype),
        }
        return (
            AgentState(theta, moments, learner, state.constants),
            diagnostics(loss, gradient, prediction, inner, info),
        )

    def outer_gradient(
        self, w: PyTree, target: PyTree, batch: Transition, hyper: Hyper, key: Array
    ) -> tuple[Array, PyTree]:
        """L^true(w), eq. (11), and g = ∂L^true/∂w. `key` is that of the last inner step: model-made
        and true targets differ by the model alone, not by the draw of a'."""
        y = self.learner.targets(target, batch.reward, batch.next_observation, batch, hyper, key)
        return jax.value_and_grad(lambda w: mean_squared(self.learner.predictions(w, batch), y))(w)

    def jacobian(self, w: PyTree, y: Float[Array, " batch"], batch: Transition) -> LeastSquares:
        """∂h/∂w, the Hessian of eq. (10) in w at fixed targets. A critic is a block; residuals
        are √(2/n) (Q − y) with n the number of critics times the minibatch."""
        root = (2 / (self.learner.critics * y.size)) ** 0.5

        def constraint(w):
            return jax.grad(lambda w: mean_squared(self.learner.predictions(w, batch), y))(w)

        def residuals(w):
            return root * self.learner.predictions(w, batch)

        return LeastSquares(
            product=lambda v: jax.jvp(constraint, (w,), (v,))[1],
            push=lambda v: jax.jvp(residuals, (w,), (v,))[1],
            pull=lambda z: jax.vjp(residuals, w)[1](z)[0],
            gram=lambda: root**2 * self.learner.tangent_kernels(w, batch),
        )

    def target_weights(
        self, w: PyTree, y: Float[Array, " batch"], g: PyTree, batch: Transition
    ) -> tuple[Float[Array, " batch"], Report]:
        """∂(−u·h)/∂y for each target y of the minibatch, with u from (∂h/∂w) u = g."""
        problem = self.jacobian(w, y, batch)
        image, report = self.method.image(problem, g)
        # a residual is √(2/n) (Q − y)
        return jnp.sum(image, axis=0) * (2 / image.size) ** 0.5, report
