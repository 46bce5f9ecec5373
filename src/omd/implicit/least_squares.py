"""What is known of the Jacobian where the inner problem is a sum of squares."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from jaxtyping import Array, Float, PyTree

from omd.implicit.trees import Product


@dataclasses.dataclass(frozen=True)
class LeastSquares:
    """The Jacobian of h = ∂/∂w ½‖r(w)‖² = Jᵀr with J = ∂r/∂w, and what is known of J.

    A `Product` like any other, for ∂h/∂w is symmetric: all methods take it. The residuals come in
    blocks [blocks, m] that share no parameter, so that J Jᵀ is zero between them.
    """

    product: Product
    """v -> (∂h/∂w) v."""
    push: Callable[[PyTree], Float[Array, "blocks m"]]
    """v -> J v."""
    pull: Callable[[Float[Array, "blocks m"]], PyTree]
    """z -> Jᵀ z."""
    gram: Callable[[], Float[Array, "blocks m m"]]
    """J Jᵀ of each block."""

    def __call__(self, v: PyTree) -> PyTree:
        return self.product(v)
