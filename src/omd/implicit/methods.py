"""Ways to solve (∂h/∂w)ᵀ u = g, eq. (7): the interface, and those that settle for less.

All see the Jacobian through the product v -> (∂h/∂w)ᵀ v only. Values are frozen pytrees:
numeric settings may be arrays (and be vmapped over), counts are static.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from omd import parts
from omd.errors import InputError
from omd.implicit.least_squares import LeastSquares
from omd.implicit.report import Report, of_approximation
from omd.implicit.trees import Product, axpy, in_one_precision, scale, subtract
from omd.parts import setting

Kind = Literal["symmetric", "general", "singular"]
"""Of a square Jacobian: symmetric positive definite, non-singular, or symmetric and singular."""


def relative_tolerance(default: float | None, help: str) -> Any:
    """A setting between 0 and 1, both left out."""
    return setting(default, help, low=0, high=1, open_low=True, open_high=True)


class AbstractMethod(eqx.Module):
    """A way to solve (∂h/∂w)ᵀ u = g. Subclasses are final.

    Fields are settings: `omd.parts.setting` gives their default, help and limits, which are checked
    when an instance is made (`InputError`).
    """

    solves: ClassVar[frozenset[Kind]] = frozenset()
    """Jacobians on which the answer is exact, given steps enough: those that it claims."""
    needs_least_squares: ClassVar[bool] = False
    """Does `solve` need a `LeastSquares`? `root` can't give it one."""

    def __check_init__(self) -> None:
        parts.check(self)

    @abc.abstractmethod
    def solve(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        """u, a pytree like g, and what is known of it.

        `vjp` maps v to (∂h/∂w)ᵀ v; g is ∂J/∂w. Methods with a tolerance always compute their
        residual (one more product, dropped by the compiler where the report is not used);
        approximations do so where `check`.
        """

    def solve_from(
        self, start: PyTree, vjp: Product, g: PyTree, *, check: bool = False
    ) -> tuple[PyTree, Report]:
        """As `solve`, from a first guess: u = start + solve(g − (∂h/∂w)ᵀ start).

        The report is about what is left to solve; methods that iterate override this, and take g
        for the scale of their tolerance.
        """
        step, report = self.solve(vjp, subtract(g, vjp(start)), check=check)
        return axpy(1.0, step, start), report

    def solve_many(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        """As `solve`, for right-hand sides stacked along a leading axis [m], as are u and report.

        By default lane by lane under `jax.vmap`, which forms and factorises a matrix once.
        """
        return jax.vmap(lambda one: self.solve(vjp, one, check=check))(g)

    def preconditioned(self, inverse: Callable[[PyTree], PyTree]) -> AbstractMethod:
        """The same with a preconditioner; raises `InputError` where it takes none."""
        raise InputError(
            f"{type(self).__name__} takes no preconditioner: with has_factors=True give CG, GMRES, "
            "Refinement or no hypergradient."
        )

    def transposed(self) -> AbstractMethod:
        """What solves the transposed system; itself unless a setting has to be transposed."""
        return self

    def image(self, problem: LeastSquares, g: PyTree) -> tuple[Float[Array, "blocks m"], Report]:
        """(J u, report), which is all that a gradient asks of u where only the residuals, and not
        their Jacobian J, depend on θ: u · ∂h/∂θ = (J u) · ∂r/∂θ."""
        u, report = self.solve(problem, g)
        return problem.push(u), report

    @property
    def products(self) -> int:
        """An upper bound of the products, one after another, with the operator that a solve
        iterates (A Aᵀ for `NormalCG`); 1 where it doesn't iterate."""
        return 1

    @classmethod
    def precise(cls, size: int, step: float) -> AbstractMethod:
        """As exact as it can be in the current precision, for `size` numbers in w of a problem on
        which w − step · h converges: for comparisons."""
        return cls()


class Identity(AbstractMethod):
    """u = g: the inverse Jacobian replaced by the identity matrix, section 6 and eq. (13)."""

    def solve(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        return g, of_approximation(vjp, g, g, 0, check=check)


class Neumann(AbstractMethod):
    """u = step · Σ_{j < terms} (I − step · (∂h/∂w)ᵀ)^j g, by terms − 1 products.

    Converges as terms grow where I − step · ∂h/∂w is a contraction. One term at step = 1 is
    `Identity`.
    """

    solves = frozenset({"symmetric", "general", "singular"})

    terms: int = setting(10, "terms of the series", low=1, static=True)
    step: ArrayLike = setting(1.0, "factor of the Jacobian", low=0, open_low=True)

    @property
    def products(self) -> int:
        return max(1, self.terms - 1)

    @classmethod
    def precise(cls, size: int, step: float) -> AbstractMethod:
        return cls(1000, step)

    def solve(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        def add_term(_, u):
            return axpy(self.step, subtract(g, vjp(u)), u)

        u = jax.lax.fori_loop(0, self.terms - 1, add_term, scale(self.step, g))
        return u, of_approximation(vjp, u, g, self.terms, check=check)


class Nystrom(AbstractMethod):
    """u = (Â + damping · I)⁻¹ g with Â a randomised Nyström approximation, for symmetric Jacobians.

    Â = AΩ (ΩᵀAΩ)⁺ (AΩ)ᵀ with `rank` random orthonormal columns Ω [n, rank]: `rank` products and
    rank · n numbers. The inverse comes from Woodbury's identity, written in the eigenbasis of Â.
    Meant for positive semi-definite Jacobians; directions outside the sketch get g / damping.
    """

    solves = frozenset({"symmetric", "singular"})

    rank: int = setting(10, "columns of the sketch, a product each", low=1, static=True)
    damping: ArrayLike = setting(
        1e-2, "multiple of the identity added to the approximation", low=0, open_low=True
    )
    seed: int | Int[Array, ""] = setting(0, "of the random sketch", low=0)

    @classmethod
    def precise(cls, size: int, step: float) -> AbstractMethod:
        return cls(size, damping=machine_epsilon() ** 0.55)

    def solve(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        vjp, g, back = in_one_precision(vjp, g)
        flat, unravel = ravel_pytree(g)
        rank = min(self.rank, flat.size)
        sketch = jax.random.normal(jax.random.key(self.seed), (flat.size, rank), flat.dtype)
        omega, _ = jnp.linalg.qr(sketch)
        image = jax.vmap(lambda v: ravel_pytree(vjp(unravel(v)))[0], 1, 1)(omega)
        q, r = jnp.linalg.qr(image)
        core = r @ _symmetric_pseudo_inverse(omega.T @ image) @ r.T
        values, vectors = jnp.linalg.eigh((core + core.T) / 2)
        basis = q @ vectors
        inside = basis.T @ flat
        damping = jnp.asarray(self.damping, flat.dtype)
        outside = flat - basis @ inside if rank < flat.size else jnp.zeros_like(flat)
        u = unravel(outside / damping + basis @ (inside / (values + damping)))
        return back(u), of_approximation(vjp, u, g, rank, damping, check=check)


def machine_epsilon() -> float:
    """Of JAX's default precision."""
    return float(jnp.finfo(jnp.result_type(float)).eps)


def _symmetric_pseudo_inverse(matrix: Float[Array, "k k"]) -> Float[Array, "k k"]:
    values, vectors = jnp.linalg.eigh((matrix + matrix.T) / 2)
    cutoff = jnp.max(jnp.abs(values)) * len(values) * jnp.finfo(values.dtype).eps
    kept = jnp.abs(values) > cutoff
    return (vectors * jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)) @ vectors.T
