"""The sibling of the implicit methods: differentiate through the iterations themselves."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from omd import parts
from omd.implicit import validation
from omd.implicit.report import Report, unchecked
from omd.implicit.theorem import total_loss
from omd.implicit.trees import as_arrays, floats, is_float
from omd.parts import setting


class Unrolled(eqx.Module):
    """K = `steps` iterations w <- step(w, θ, *aux), differentiated through (as MAML does).

    Not an implicit method: it needs the iteration instead of a constraint, keeps every iterate in
    memory, and depends on w0. As K grows its gradient tends to the implicit one, if the iteration
    converges.
    """

    steps: int = setting(1000, "iterations", low=1, static=True)

    def __check_init__(self) -> None:
        parts.check(self, "unrolled")

    def run(self, step: Callable[..., PyTree], w0: PyTree, theta: PyTree, *aux) -> PyTree:
        """w_K, a pytree like w0. Raises `InputError` where step's output is not like w0 or
        something is complex."""
        for name, value in (("w0", w0), ("theta", theta), ("aux", aux)):
            validation.is_real(name, value)
        diff, rest = eqx.partition(as_arrays(w0), is_float)

        def body(diff, _):
            image = floats(step(eqx.combine(diff, rest), theta, *aux))
            validation.matches("the output of step(w, theta)", image, diff)
            return image, None

        diff, _ = jax.lax.scan(body, diff, length=self.steps)
        return eqx.combine(diff, rest)

    def hypergradient(
        self,
        outer_loss: Callable[..., Array],
        step: Callable[..., PyTree],
        w0: PyTree,
        theta: PyTree,
        *aux,
    ) -> tuple[PyTree, Report]:
        """(d outer_loss(w_K(θ), θ, *aux) / dθ, report), the gradient of what K steps reach.

        The report is that of an unchecked approximation: nothing says that w_K is a solution.
        """
        diff, rest = eqx.partition(as_arrays(theta), is_float)

        def loss(diff):
            theta = eqx.combine(diff, rest)
            return total_loss(outer_loss, self.run(step, w0, theta, *aux), theta, aux)

        return jax.grad(loss)(diff), unchecked(self.steps, jnp.result_type(float))
