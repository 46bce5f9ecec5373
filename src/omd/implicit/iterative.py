"""Krylov solvers for (∂h/∂w)ᵀ u = g, each checked by a product of its own."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from equinox import internal as eqxi
from jaxtyping import Array, ArrayLike, Int, PyTree

from omd.errors import InputError
from omd.implicit import block, validation
from omd.implicit.methods import AbstractMethod, machine_epsilon, relative_tolerance
from omd.implicit.report import Report, Status, judge, relative, residuals
from omd.implicit.trees import Product, axpy, dot, in_one_precision, norm, scale, subtract
from omd.parts import setting

STOPS = "relative residual at which it stops, and above which it fails"

_REFRESH = 100
"""Steps of conjugate gradient between two residuals that are computed afresh."""


class CG(AbstractMethod):
    """Conjugate gradient on ∂h/∂w + damping · I, which must be symmetric positive definite.

    On any other Jacobian the answer is wrong, and the report says so. Stops at a relative
    residual of rtol or after max_steps products. `preconditioner` is a function or a linear
    operator v -> M v on pytrees like w, symmetric definite, near the inverse of the Jacobian.
    """

    solves = frozenset({"symmetric"})

    damping: ArrayLike = setting(0.0, "multiple of the identity added to the Jacobian", low=0)
    rtol: ArrayLike = relative_tolerance(1e-5, STOPS)
    max_steps: int = setting(100, "products at most", low=1, static=True)
    preconditioner: Callable[[PyTree], PyTree] | lx.AbstractLinearOperator | None = setting(
        None, "function or linear operator near the inverse of the Jacobian"
    )

    @property
    def products(self) -> int:
        return self.max_steps

    @classmethod
    def precise(cls, size: int, step: float) -> AbstractMethod:
        return cls(rtol=machine_epsilon() ** 0.75, max_steps=10 * size)

    def preconditioned(self, inverse: Callable[[PyTree], PyTree]) -> AbstractMethod:
        return dataclasses.replace(self, preconditioner=inverse)

    def solve(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        return self.solve_from(None, vjp, g, check=check)

    def solve_from(
        self, start: PyTree, vjp: Product, g: PyTree, *, check: bool = False
    ) -> tuple[PyTree, Report]:
        vjp, g, back = in_one_precision(vjp, g)
        u, r, steps = _conjugate_gradient(
            lambda v: axpy(self.damping, v, vjp(v)),
            g,
            start,
            _aim(self.rtol),
            self.max_steps,
            _product_of(self.preconditioner),
        )
        failure = _failure(steps, self.max_steps)
        undamped = relative(axpy(self.damping, u, r), g)
        return back(u), judge(undamped, relative(r, g), steps, self.rtol, failure)

    def solve_many(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        vjp, g, back = in_one_precision(vjp, g)

        u, steps = block.conjugate_gradient(
            lambda v: axpy(self.damping, v, vjp(v)),
            g,
            _aim(self.rtol),
            self.max_steps,
            _product_of(self.preconditioner),
        )
        failure = _failure(steps, self.max_steps)

        def judged(u: PyTree, g: PyTree) -> Report:
            return judge(*residuals(vjp, u, g, self.damping), steps, self.rtol, failure)

        return back(u), jax.vmap(judged)(u, g)


class NormalCG(AbstractMethod):
    """Conjugate gradient on (A Aᵀ + damping · I) u = A g with A = ∂h/∂w: any square Jacobian.

    Two products an iteration, and the condition number is squared. On a singular Jacobian it
    tends to the least-squares solution of minimum norm. Status and rtol are about this equation,
    and so is the preconditioner, near (A Aᵀ)⁻¹.
    """

    solves = frozenset({"symmetric", "general", "singular"})

    damping: ArrayLike = setting(
        0.0, "multiple of the identity added to the normal equations", low=0
    )
    rtol: ArrayLike = relative_tolerance(1e-5, STOPS)
    max_steps: int = setting(200, "steps of two products at most", low=1, static=True)
    preconditioner: Callable[[PyTree], PyTree] | lx.AbstractLinearOperator | None = setting(
        None, "function or linear operator near the inverse of A Aᵀ"
    )

    @property
    def products(self) -> int:
        return self.max_steps

    @classmethod
    def precise(cls, size: int, step: float) -> AbstractMethod:
        return cls(rtol=machine_epsilon() ** 0.75, max_steps=40 * size)

    def solve(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        return self.solve_from(None, vjp, g, check=check)

    def solve_from(
        self, start: PyTree, vjp: Product, g: PyTree, *, check: bool = False
    ) -> tuple[PyTree, Report]:
        vjp, g, back = in_one_precision(vjp, g)
        normal = _NormalEquations.of(vjp, g, self.damping)
        right = normal.right(g)
        u, _, steps = _conjugate_gradient(
            normal.product,
            right,
            start,
            _aim(self.rtol),
            self.max_steps,
            _product_of(self.preconditioner),
        )
        return back(u), self._judged(normal, u, g, steps)

    def solve_many(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        vjp, g, back = in_one_precision(vjp, g)
        normal = _NormalEquations.of(vjp, jax.tree.map(lambda leaf: leaf[0], g), self.damping)
        u, steps = block.conjugate_gradient(
            normal.product,
            jax.vmap(normal.right)(g),
            _aim(self.rtol),
            self.max_steps,
            _product_of(self.preconditioner),
        )
        return back(u), jax.vmap(lambda u, g: self._judged(normal, u, g, steps))(u, g)

    def _judged(self, normal: _NormalEquations, u: PyTree, g: PyTree, steps: Any) -> Report:
        r = subtract(normal.vjp(u), g)
        left = axpy(normal.damping, u, normal.right(r))
        failure = _failure(steps, self.max_steps)
        return judge(relative(r, g), relative(left, normal.right(g)), steps, self.rtol, failure)


class GMRES(AbstractMethod):
    """Restarted GMRES on ∂h/∂w + damping · I: any square Jacobian, such as I − γP.

    Keeps `restart` vectors; stops at a relative residual of rtol or after max_restarts cycles of
    `restart` products each. `preconditioner` is a function or a linear operator v -> M v on pytrees
    like w, near the inverse of what `solve` is given: of (∂h/∂w)ᵀ for a gradient. Forward mode
    takes its transpose.
    """

    solves = frozenset({"symmetric", "general"})

    damping: ArrayLike = setting(0.0, "multiple of the identity added to the Jacobian", low=0)
    rtol: ArrayLike = relative_tolerance(1e-5, STOPS)
    restart: int = setting(
        20, "vectors kept, and products a cycle", low=1, high=10_000, static=True
    )
    max_restarts: int = setting(20, "cycles at most", low=1, static=True)
    preconditioner: Callable[[PyTree], PyTree] | lx.AbstractLinearOperator | None = setting(
        None, "function or linear operator near the inverse of the Jacobian"
    )

    @property
    def products(self) -> int:
        return self.restart * self.max_restarts

    @classmethod
    def precise(cls, size: int, step: float) -> AbstractMethod:
        return cls(rtol=machine_epsilon() ** 0.75, restart=size)

    def preconditioned(self, inverse: Callable[[PyTree], PyTree]) -> AbstractMethod:
        return dataclasses.replace(self, preconditioner=inverse)

    def solve(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        return self.solve_from(None, vjp, g, check=check)

    def solve_from(
        self, start: PyTree, vjp: Product, g: PyTree, *, check: bool = False
    ) -> tuple[PyTree, Report]:
        start, g = jax.tree.map(lambda x: x[None], (start, g))
        return jax.tree.map(lambda x: x[0], self._solve_block(start, vjp, g))

    def solve_many(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        return self._solve_block(None, vjp, g)

    def _solve_block(self, start: PyTree | None, vjp: Product, g: PyTree) -> tuple[PyTree, Report]:
        """As `solve_many`, from a first guess where there is one."""
        # lineax's GMRES ends in an error where lanes are spread over devices
        vjp, g, back = in_one_precision(vjp, g)
        goal, left = _aim(self.rtol), g

        def operator(v: PyTree) -> PyTree:
            return axpy(self.damping, v, vjp(v))

        if start is not None:
            left = subtract(g, jax.vmap(operator)(start))
            remaining = jax.vmap(norm)(left)
            goal = goal * jax.vmap(norm)(g) / jnp.where(remaining > 0, remaining, 1)
        u, cycles = block.gmres(
            operator,
            left,
            goal,
            self.restart,
            self.max_restarts,
            _product_of(self.preconditioner),
        )
        u = u if start is None else axpy(1, start, u)
        failure = _failure(cycles, self.max_restarts)

        def judged(u: PyTree, g: PyTree) -> Report:
            return judge(*residuals(vjp, u, g, self.damping), cycles, self.rtol, failure)

        return back(u), jax.vmap(judged)(u, g)

    def transposed(self) -> AbstractMethod:
        if self.preconditioner is None:
            return self
        return dataclasses.replace(self, preconditioner=Transposed(self.preconditioner))


class Refinement(AbstractMethod):
    """Iterative refinement: u ← u + M (g − (∂h/∂w)ᵀ u) with M the preconditioner.

    For an M that is nearly the inverse, such as the factors that a forward solver leaves: one or
    two products then. Converges where I − M (∂h/∂w)ᵀ is a contraction. Stops at a relative
    residual of rtol or after max_steps products.
    """

    preconditioner: Callable[[PyTree], PyTree] | lx.AbstractLinearOperator = setting(
        help="function or linear operator near the inverse of the Jacobian"
    )
    rtol: ArrayLike = relative_tolerance(1e-5, STOPS)
    max_steps: int = setting(20, "products at most", low=1, static=True)

    @property
    def products(self) -> int:
        return self.max_steps

    def preconditioned(self, inverse: Callable[[PyTree], PyTree]) -> AbstractMethod:
        return dataclasses.replace(self, preconditioner=inverse)

    def solve(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        return self.solve_from(scale(0, g), vjp, g, check=check)

    def solve_from(
        self, start: PyTree, vjp: Product, g: PyTree, *, check: bool = False
    ) -> tuple[PyTree, Report]:
        inverse = _product_of(self.preconditioner)
        goal = self.rtol * norm(g)

        def unfinished(carry):
            _, r, steps = carry
            return (norm(r) > goal) & (steps < self.max_steps)

        def refine(carry):
            u, r, steps = carry
            u = axpy(1.0, inverse(r), u)
            return u, subtract(g, vjp(u)), steps + 1

        u, r, steps = jax.lax.while_loop(
            unfinished, refine, (start, subtract(g, vjp(start)), jnp.int32(0))
        )
        failure = _failure(steps, self.max_steps)
        return u, judge(relative(r, g), relative(r, g), steps, self.rtol, failure)

    def transposed(self) -> AbstractMethod:
        return dataclasses.replace(self, preconditioner=Transposed(self.preconditioner))


class _NormalEquations(NamedTuple):
    """(A Aᵀ + damping · I) u = A g, all divided by the square of A's size, a power of two, lest it
    under- or overflow."""

    vjp: Product
    jvp: Product
    size: ArrayLike
    damping: ArrayLike

    @classmethod
    def of(cls, vjp: Product, g: PyTree, damping: ArrayLike) -> _NormalEquations:
        transpose = jax.linear_transpose(vjp, g)

        def jvp(v: PyTree) -> PyTree:
            return transpose(v)[0]

        length = norm(g)
        size = norm(jvp(scale(1 / jnp.where(length > 0, length, 1), g)))
        size = jnp.maximum(size, jnp.sqrt(jnp.asarray(damping, size.dtype)))
        good = (size > 0) & jnp.isfinite(size)
        size = jnp.ldexp(jnp.ones_like(size), jnp.frexp(jnp.where(good, size, 1))[1])
        return cls(vjp, jvp, size, damping / size / size)

    def right(self, g: PyTree) -> PyTree:
        return scale(1 / self.size, self.jvp(scale(1 / self.size, g)))

    def product(self, v: PyTree) -> PyTree:
        return axpy(self.damping, v, self.right(self.vjp(v)))


_PRODUCT = "what the preconditioner, or the solver's factors, gives"


class Transposed(eqx.Module):
    """The transpose of a linear function on pytrees, or of a linear operator."""

    of: Callable[[PyTree], PyTree] | lx.AbstractLinearOperator

    def __call__(self, v: PyTree) -> PyTree:
        return jax.linear_transpose(_product_of(self.of), v)(v)[0]


def _product_of(linear: Any) -> Any:
    """The product of a linear operator or a function, in the precision of what it is given; None
    where there is neither. Raises `InputError` where it isn't like what it is given."""
    if linear is None:
        return None
    product = getattr(linear, "mv", linear)
    if not callable(product):
        raise InputError(
            "the preconditioner must be a function or a linear operator v -> M v, not "
            f"{linear!r}: give one, or leave it out."
        )

    def like_its_input(v: PyTree) -> PyTree:
        made = product(v)
        validation.is_real(_PRODUCT, made)
        with contextlib.suppress(ValueError):  # another pytree: told below
            made = jax.tree.map(lambda a, b: jnp.asarray(b, a.dtype), v, made)
        validation.matches(_PRODUCT, made, v, "it must take and return a pytree like w")
        return made

    return like_its_input


def _failure(steps: ArrayLike, max_steps: int) -> Any:
    return jnp.where(jnp.asarray(steps) >= max_steps, Status.MAX_STEPS, Status.STAGNATED)


def _aim(rtol: ArrayLike) -> Any:
    """Half the tolerance, so that the check afterwards is not lost to rounding."""
    return rtol / 2


def _conjugate_gradient(
    operator: Product,
    right: PyTree,
    start: PyTree | None,
    goal: ArrayLike,
    max_steps: int,
    preconditioner: Product | None = None,
) -> tuple[PyTree, PyTree, Int[Array, ""]]:
    """(u, operator(u) − right, steps), to a residual of goal · ‖right‖; the residual is computed
    afresh at the end, and every `_REFRESH` steps lest rounding carry the recursion's away."""
    inverse = preconditioner or (lambda r: r)
    length = norm(right)
    length = jnp.where(length > 0, length, 1)

    def unit():
        return scale(1 / length, right)

    def residual(u):
        # scaled here, lest one more vector be kept through the loop
        return subtract(unit(), operator(u))

    def unfinished(carry):
        _, r, _, gamma, steps = carry
        return (norm(r) > goal) & (gamma != 0) & (steps < max_steps)

    def advance(carry):
        u, r, p, gamma, steps = carry
        image = operator(p)
        curvature = dot(p, image)
        alpha = jnp.where(curvature == 0, 0, gamma / jnp.where(curvature == 0, 1, curvature))
        u = axpy(alpha, p, u)
        steps = steps + 1
        if max_steps > _REFRESH:  # the branch keeps one vector more through the loop
            fresh = eqxi.nonbatchable(eqxi.unvmap_max(steps) % _REFRESH == 0)
            r = jax.lax.cond(fresh, lambda: residual(u), lambda: axpy(-alpha, image, r))
        else:
            r = axpy(-alpha, image, r)
        z = inverse(r)
        gamma, before = dot(z, r), gamma
        return u, r, axpy(gamma / before, p, z), gamma, steps

    u = scale(0, right) if start is None else scale(1 / length, start)
    r = unit() if start is None else residual(u)
    p = inverse(r)
    carry = (u, r, p, dot(p, r), jnp.int32(0))
    u, _, _, _, steps = jax.lax.while_loop(unfinished, advance, carry)
    return scale(length, u), scale(-length, residual(u)), steps
