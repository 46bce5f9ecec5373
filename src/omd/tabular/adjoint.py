"""The linear systems (I − γP^π)ᵀ u = g behind the gradients of Q* and V^π, eq. (7)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from omd import implicit
from omd.implicit.report import judge, relative
from omd.implicit.trees import norm


class Sweeps(implicit.AbstractMethod):
    """u ← g + γP^πᵀ u until ‖(I − γP^π)ᵀ u − g‖ ≤ rtol ‖g‖, from a start with the right sum.

    Since every row of P^π sums to one, the sum of u must be that of g divided by 1 − γ, and every
    sweep keeps what is missing from it a factor γ alive. Starting with nothing missing leaves only
    the error that P^π mixes away: a few dozen sweeps where the chain mixes well, whatever γ; in
    the worst case errors still shrink like γ^k. Needs three vectors like g and no matrix.
    """

    discount: ArrayLike
    rtol: ArrayLike
    max_steps: int = 100_000

    def solve(self, vjp: Any, g: Any, *, check: bool = False) -> tuple[Any, implicit.Report]:
        goal = self.rtol * norm(g)

        def unfinished(carry):
            _, r, count = carry
            return (norm(r) > goal) & (count < self.max_steps)

        def advance(carry):
            u, r, count = carry
            u = u + r
            return u, g - vjp(u), count + 1

        u = g + self.discount / (1 - self.discount) * g.mean()
        u, r, count = jax.lax.while_loop(unfinished, advance, (u, g - vjp(u), jnp.int32(0)))
        size = relative(r, g)
        # the rounding of a quotient may not turn a solve that ended into one that failed
        tolerance = jnp.where(norm(r) <= goal, size, self.rtol)
        return u, judge(size, size, count, tolerance, implicit.Status.MAX_STEPS)


class OrNaN(implicit.AbstractMethod):
    """Another method, whose answer becomes NaN where its own residual says that it failed."""

    method: implicit.AbstractMethod

    def solve(self, vjp: Any, g: Any, *, check: bool = False) -> tuple[Any, implicit.Report]:
        u, report = self.method.solve(vjp, g, check=check)
        ok = report.status == implicit.Status.CONVERGED
        return jax.tree.map(lambda x: jnp.where(ok, x, jnp.nan), u), report


def default(
    w: Float[Array, " ..."], discount: ArrayLike, tolerance: ArrayLike, dense_size: int
) -> implicit.AbstractMethod:
    """What `solve` and `evaluate` use for a fixed point w: LU up to `dense_size` numbers in w.

    Above, `Sweeps` to the tolerance of the forward solve, as far as the precision allows.
    """
    if w.size <= dense_size:
        return OrNaN(implicit.Dense())
    finest = 1e-11 if w.dtype == jnp.float64 else 1e-5
    return OrNaN(Sweeps(discount, jnp.clip(tolerance, finest, 1e-4)))
