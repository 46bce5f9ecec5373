"""The table of `docs/from-jaxopt.md`: the code in its rows, old and new, does the same.
tests/test_site.py runs the blocks."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import implicit

jaxopt = pytest.importorskip("jaxopt")

_PAGE = pathlib.Path(__file__).parents[2] / "docs" / "from-jaxopt.md"
_ROWS = re.findall(r"^\| `(.+)` \| `(.+)` \|$", _PAGE.read_text(encoding="utf-8"), re.MULTILINE)
_MATRIX = np.array([[2.0, 0.3], [0.3, 1.0]])


def _names():
    """What the rows speak of: a linear constraint F, the same as a fixed point T, a problem with
    constraints."""
    theta = jnp.array([0.3, 0.4])

    def F(w, theta):
        return _MATRIX @ w - theta

    return {
        "jax": jax,
        "jaxopt": jaxopt,
        "implicit": implicit,
        "F": F,
        "theta": theta,
        "T": lambda w, theta: w - 0.3 * F(w, theta),
        "w": jnp.linalg.solve(_MATRIX, theta),
        "v": jnp.array([1.0, -2.0]),
        "x": jnp.array([0.6, 0.9, -1.3]),
        "low": -1.0,
        "high": 0.7,
        "size": 1.5,
        "f": lambda x, theta: x @ _MATRIX @ x / 2 - theta @ x,
        "eq": lambda x, _: jnp.array([jnp.sum(x) - 1.0]),
        "ineq": lambda x, _: -x,
    }


def _solver(init, theta):
    return jnp.linalg.solve(_MATRIX, theta)


def _used(code, names):
    """The numbers that a cell of the table stands for."""
    if code.startswith("solve="):
        solve = eval(code.removeprefix("solve="), names)
        library = jaxopt.implicit_diff if "jaxopt" in code else implicit
        decorated = library.custom_root(names["F"], solve=solve)(_solver)
    elif code.startswith("@"):
        decorated = eval(code.removeprefix("@"), names)(_solver)
    elif "kkt" in code:
        point = (jnp.array([0.2, 0.8]), jnp.array([0.5]), jnp.array([0.1, 0.0]))
        conditions, theta = eval(code, names), names["theta"]
        if "jaxopt" in code:
            return conditions(point, theta, theta, theta)
        return tuple(conditions(implicit.KKT(*point), theta))
    else:
        found = eval(code, names)
        return found[0] if isinstance(found, tuple) else found
    return jax.jacrev(decorated, argnums=1)(jnp.zeros(2), names["theta"])


@pytest.mark.parametrize(("old", "new"), _ROWS, ids=[old for old, _ in _ROWS])
def test_a_row_of_the_migration_table(old, new):
    names = _names()
    before, after = _used(old, names), _used(new, names)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    if "@" in old or "solve=" in old:
        np.testing.assert_allclose(after, np.linalg.inv(_MATRIX), rtol=1e-3, atol=1e-4)


def test_every_row_is_code():
    table = [line for line in _PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    assert len(table) == len(_ROWS) + 1 > 12


def test_a_solver_of_jaxopt_may_stay():
    solve = jaxopt.linear_solve.solve_cg
    decorated = implicit.custom_root(_names()["F"], solve=solve)(_solver)
    found = jax.jacrev(decorated, argnums=1)(jnp.zeros(2), jnp.ones(2))
    np.testing.assert_allclose(found, np.linalg.inv(_MATRIX), rtol=1e-4)
