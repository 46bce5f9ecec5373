"""Gauss–Newton for inner problems that are least squares: the inverse costs a solve in samples."""

from __future__ import annotations

import jax.numpy as jnp
import jax.scipy as jsp
from jaxtyping import Array, ArrayLike, Float, PyTree

from omd.errors import InputError
from omd.implicit.least_squares import LeastSquares
from omd.implicit.methods import AbstractMethod
from omd.implicit.report import Report, of_approximation, unchecked
from omd.implicit.trees import Product, scale, subtract
from omd.parts import setting


class GaussNewton(AbstractMethod):
    """u = (JᵀJ + damping · I)⁻¹ g: the curvature of the residuals is left out of ∂h/∂w.

    By Woodbury's identity on J Jᵀ [m, m], so no matrix has a side of w's length, and nothing is
    iterated. Exact up to the damping where the residuals are zero or linear in w. For callers
    that hand `solve` a `LeastSquares`, as the agents do; `InputError` for any other constraint.
    u is what two nearly equal numbers leave: its relative error is about eps ‖J Jᵀ‖ / damping.
    `image` has no such difference in it.
    """

    needs_least_squares = True

    damping: ArrayLike = setting(
        1e-3, "multiple of the identity added to JᵀJ", low=0, open_low=True
    )

    def solve(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        if not isinstance(vjp, LeastSquares):
            raise InputError(
                "gauss-newton needs a constraint that is known to be the gradient of a sum of "
                "squares (implicit.LeastSquares), and this one is just a function; take cg."
            )
        u = scale(1 / self.damping, subtract(g, vjp.pull(self._image(vjp, g))))
        return u, of_approximation(vjp, u, g, 0, self.damping, check=check)

    def image(self, problem: LeastSquares, g: PyTree) -> tuple[Float[Array, "blocks m"], Report]:
        """J u = (J Jᵀ + damping · I)⁻¹ J g, and a report that claims nothing.

        2 eps tr(J Jᵀ) is added to the damping, lest rounding make the matrix indefinite.
        """
        image = self._image(problem, g)
        return image, unchecked(0, image.dtype)

    def _image(self, problem: LeastSquares, g: PyTree) -> Float[Array, "blocks m"]:
        # one by one: factorisations in a batch can lock up XLA's threads on a CPU
        blocks = zip(problem.gram(), problem.push(g), strict=True)
        return jnp.stack([_solve(gram, b, self.damping) for gram, b in blocks])


def _solve(
    gram: Float[Array, "m m"], right: Float[Array, " m"], damping: ArrayLike
) -> Float[Array, " m"]:
    rounding = 2 * jnp.finfo(gram.dtype).eps * jnp.trace(gram)
    damped = gram + (damping + rounding).astype(gram.dtype) * jnp.eye(len(gram), dtype=gram.dtype)
    return jsp.linalg.cho_solve(jsp.linalg.cho_factor(damped), right)
