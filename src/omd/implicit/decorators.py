"""Decorators that give a solver the derivative of its answer, with JAXopt's argument order."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from jaxtyping import ArrayLike, PyTree

from omd.errors import InputError
from omd.implicit.methods import AbstractMethod, relative_tolerance
from omd.implicit.report import Report, Status, judge, residuals
from omd.implicit.roots import from_fixed_point, root
from omd.implicit.theorem import constant
from omd.implicit.trees import Product, as_arrays
from omd.parts import setting

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class FromFunction(AbstractMethod):
    """A solver written as function(product, right) -> u, such as those of `jax.scipy.sparse.linalg`
    or of JAXopt. Its residual is computed; one above `rtol` is a failure."""

    function: Callable[[Product, PyTree], PyTree] = setting(help="(product, right) -> u")
    rtol: ArrayLike = relative_tolerance(1e-4, "relative residual above which it fails")

    def solve(self, vjp: Product, g: PyTree, *, check: bool = False) -> tuple[PyTree, Report]:
        u = self.function(vjp, g)
        return u, judge(*residuals(vjp, u, g), 0, self.rtol, Status.STAGNATED)


def custom_root(
    constraint: Callable[..., PyTree],
    *,
    has_aux: bool = False,
    solve: AbstractMethod | Callable[[Product, PyTree], PyTree] | None = None,
    reference_signature: Callable[..., Any] | inspect.Signature | None = None,
    throw: bool = True,
    on_report: Callable[[Report], None] | None = None,
) -> Decorator:
    """A decorator for solver(init, *args) -> w with constraint(w, *args) = 0: its answer gets the
    derivative of the implicit function theorem in all of args, eq. (7).

    `solver` is a black box; it may take `None` for init. `solve` is a hypergradient or a function
    (product, right) -> u; the default is `GMRES()`. With `has_aux` the solver returns (w, extra).
    The constraint gets all of the solver's arguments, defaults too, at their places; those that the
    solver takes by keyword only, at the place where `reference_signature` (by default the
    constraint's) has them. `throw`, `on_report`: as for `root`. Raises `InputError` where the
    constraint's output is not like w.
    """
    if isinstance(solve, AbstractMethod) or solve is None:
        method = solve
    elif callable(solve):
        method = FromFunction(solve)
    else:
        raise InputError(
            f"solve is {solve!r}: give a method such as implicit.CG(), or a function (product, "
            "right) -> u; a name is turned into a method by implicit.get."
        )

    def h(w: PyTree, given: tuple) -> PyTree:
        args, kwargs = given
        if not kwargs:
            return constraint(w, *args)
        reference = reference_signature or constraint
        if not isinstance(reference, inspect.Signature):
            reference = inspect.signature(reference)
        try:
            bound = reference.bind(w, *args, **kwargs)
        except TypeError as error:
            raise InputError(
                f"the solver takes {', '.join(kwargs)} by keyword, but the constraint has no place "
                f"for that ({error}): give its arguments these names, or a reference_signature."
            ) from None
        return constraint(*bound.args, **bound.kwargs)

    def decorator(solver: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(solver)

        def forward(w0: PyTree, given: tuple) -> Any:
            return solver(w0, *given[0], **given[1])

        @functools.wraps(solver)
        def run(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            init, *rest = bound.args
            given = (tuple(rest), bound.kwargs)
            first: Any = init
            if init is None:
                answer = as_arrays(constant(forward(None, constant(as_arrays(given)))))
                if has_aux and not (isinstance(answer, tuple) and len(answer) == 2):
                    raise InputError(
                        "with has_aux=True the solver must return a pair (w, extra), not "
                        f"{type(answer).__name__}."
                    )
                first = answer[0] if has_aux else answer

            return root(
                h,
                forward if init is not None else lambda *_: answer,
                first,
                given,
                hypergradient=method,
                has_aux=has_aux,
                throw=throw,
                on_report=on_report,
            )

        return run

    return decorator


def custom_fixed_point(operator: Callable[..., PyTree], **settings: Any) -> Decorator:
    """As `custom_root`, for solver(init, *args) -> w with w = operator(w, *args)."""
    reference = settings.pop("reference_signature", None) or operator
    return custom_root(from_fixed_point(operator), reference_signature=reference, **settings)
