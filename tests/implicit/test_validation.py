"""Bad input is refused at the call, with one sentence."""

import jax.numpy as jnp
import numpy as np
import pytest

from omd import implicit
from omd.errors import InputError

_W0 = np.zeros(2)
_THETA = np.array([0.3, 0.4])
_X = np.array([1.0, 2.0])


def _solver(w0, theta, x):
    return theta * x + 0 * w0


_CONSTRAINT = implicit.from_fixed_point(_solver)


def _root(constraint=_CONSTRAINT, solver=_solver, w0=_W0, **settings):
    return implicit.root(constraint, solver, w0, _THETA, _X, **settings)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: _root(lambda w, t, x: {"a": jnp.zeros(3)}, w0={"a": _W0}),
            r"\['a'\]: expected float64\[2\], got float64\[3\]",
        ),
        (lambda: _root(lambda w, t, x: {"b": w["a"]}, w0={"a": _W0}), r"got nothing"),
        (lambda: _root(lambda w, t, x: jnp.float32(w)), r"got float32\[2\]"),
        (lambda: _root(lambda w, t, x: [w["a"]], w0={"a": _W0}), "expected float64"),
        (
            lambda: _root(lambda w, t, x: list(w), w0=(_W0,)),
            "in other containers: expected PyTreeDef",
        ),
        (lambda: _root(solver=lambda *_: jnp.zeros(3)), "the solver's answer does not match w"),
        (lambda: _root(solver=lambda w, *_: w, has_aux=True), "must return a pair"),
        (lambda: _root(w0=jnp.zeros(2, int)), r"w0 has no floating-point .* int64\[2\]"),
        (lambda: _root(w0={}), "an empty pytree"),
        (lambda: _root(w0=_W0.astype(complex)), "only real numbers"),
        (lambda: _root(w0=1j), "w0 is complex, but only real numbers"),
        (lambda: _root(solver=lambda *_: jnp.zeros(2, int)), r"got int64\[2\]"),
        (lambda: _root(adjoint_init=jnp.zeros(2) * 1j), "adjoint_init is complex128"),
        (lambda: _root(solver=lambda *_: (_W0, 3), has_factors=True), "operator .*, not int"),
        *[
            (
                lambda v=v: implicit.hypergradient(lambda w, *_: v, _CONSTRAINT, _W0, _THETA, _X),
                "outer_loss must return a (scalar|real floating-point number), not",
            )
            for v in (None, 3, 1j, (1.0, 2.0))
        ],
        (lambda: implicit.custom_root(_CONSTRAINT, solve="cg"), "solve is 'cg': give a method"),
        (
            lambda: implicit.custom_root(lambda w, t: w - t)(lambda w, **k: k["s"])(_W0, s=1.0),
            "takes s by keyword, but the constraint has no place",
        ),
        (
            lambda: implicit.jacobian(lambda w, *_: w * 1j, _CONSTRAINT, _W0, _THETA, _X),
            r"vector of floating-point numbers, not .complex128\[2\]",
        ),
        (lambda: implicit.Unrolled(3).run(lambda w, t: w, _W0 * 1j, _THETA), "w0 is complex128"),
        (lambda: implicit.CG().solve(lambda v: v, _W0 * 1j), "right-hand side is complex128"),
        (
            lambda: implicit.root(
                lambda w, t, c: w - t, lambda w0, t, c: t, _W0, _THETA, {"c": _X * 1j}
            ),
            r"aux\[0\]\['c'\] is complex128",
        ),
        (
            lambda: implicit.custom_root(_CONSTRAINT, has_aux=True)(lambda *_: _W0)(None, 1.0, 2.0),
            "must return a pair",
        ),
        (
            lambda: implicit.kkt(lambda x, t: x @ x, equality=lambda x, t: x)(
                implicit.KKT(_W0, np.zeros(())), _THETA
            ),
            r"equality returns the shape \(2,\), but w.equality has \(\)",
        ),
        (lambda: implicit.projections.simplex(_W0[:0]), "vectors of one entry or more"),
        (lambda: implicit.projections.simplex(_X, -1.0), "total must be .* greater than 0"),
        (lambda: implicit.projections.ball(_X, -1.0), "radius must be .* 0 or greater"),
        (lambda: implicit.projections.box(_X, 2.0, 1.0), "low ≤ high"),
        (lambda: implicit.projections.box(_X, np.nan, 1.0), "low ≤ high"),
        (lambda: implicit.projections.ball({"x": _X}), "must be one array, not dict"),
        (lambda: _root(hypergradient="cg"), "must be a method .* not 'cg'"),
        (lambda: _root(hypergradient=implicit.Unrolled(3)), "must be a method"),
        (
            lambda: _root(implicit.from_fixed_point(lambda w, t, x: jnp.zeros(3))),
            r"T\(w, theta\) does not match w",
        ),
        (
            lambda: implicit.hypergradient(lambda w, *_: w, _CONSTRAINT, _W0, _THETA, _X),
            r"scalar, not an array of shape \(2,\)",
        ),
        (
            lambda: implicit.hypergradient(
                lambda w, *_: w[0], lambda *_: jnp.zeros(3), _W0, _THETA, _X
            ),
            "the constraint's output does not match w",
        ),
        (
            lambda: implicit.hypergradient(lambda w, *_: w[0], _CONSTRAINT, _W0, 3, _X),
            "theta has no floating-point",
        ),
    ],
)
def test_bad_input_is_one_sentence_at_the_call(call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")
