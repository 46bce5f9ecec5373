"""Every hypergradient on the zoo, beside `Dense`, `Unrolled` and central finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import implicit
from omd.errors import InputError
from omd.implicit import Status


@pytest.mark.parametrize("name", implicit.problems.names())
def test_every_method_does_what_it_can(name):
    """One test a problem: computing the comparison is the slow part."""
    problem = implicit.problems.get(name)
    result = problem.check()
    assert [row.name for row in result.rows] == [*problem.methods, "unrolled"]
    assert result.constraint_norm < 1e-12
    assert result.tolerance == 1e-6

    assert set(result.agreeing) == problem.exact
    for row in result.rows:
        assert row.agrees == (row.error_differences <= 1e-6)
        if row.name in problem.exact:
            assert row.error_unrolled < 1e-6
            assert row.error_dense < 1e-6 or "dense" not in problem.exact
        else:
            assert not row.error_differences < 0.01

    claimed = [row for row in result.rows if row.status == Status.CONVERGED]
    assert claimed
    assert all(row.agrees for row in claimed)
    if name == "soft-q":  # I − γP is not symmetric
        assert result["cg"].status == Status.MAX_STEPS
        assert result["cg"].residual > 0.01
    if name == "singular":
        assert result["dense"].status in (Status.SINGULAR, Status.NON_FINITE)
        assert result["pseudo-inverse"].residual > 0.1  # g lies partly outside the range

    lines = str(result).splitlines()
    assert len(lines) == len(result.rows) + 2
    for row, line in zip(result.rows, lines[1:], strict=False):
        assert line.startswith(row.name)
        assert ("agrees" in line) == row.agrees


def _linear(scale=1.0):
    """w = Aθ as a fixed point of w <- w/2 + Aθ/2, and a loss; `scale` spoils the constraint."""
    matrix = jnp.array([[1.0, 2.0], [-0.5, 1.0], [0.3, 0.1]])
    return {
        "outer_loss": lambda w, theta: jnp.sum(jnp.sin(w)) + jnp.sum(theta**2),
        "constraint": lambda w, theta: w - scale * matrix @ theta,
        "solver": lambda w0, theta: matrix @ theta,
        "w0": jnp.zeros(3),
        "theta": jnp.array([0.4, -0.7]),
    }


def test_wrong_constraint_is_found_out():
    right = implicit.gradcheck(**_linear(), methods=["dense", "identity"])
    assert right.agreeing == ("dense", "identity")
    wrong = implicit.gradcheck(**_linear(scale=1.1), methods=["dense", "identity"])
    assert wrong.agreeing == ()
    assert wrong.constraint_norm > 0.01
    with pytest.raises(InputError, match="did you mean dense"):
        wrong["dens"]


def test_solver_that_cannot_be_traced():
    problem = _linear()
    matrix = np.array([[1.0, 2.0], [-0.5, 1.0], [0.3, 0.1]])
    problem["solver"] = lambda w0, theta: jnp.asarray(matrix @ np.asarray(theta))
    result = implicit.gradcheck(**problem, methods={"mine": implicit.Identity()}, jit=False)
    assert result.agreeing == ("mine",)
    assert np.isnan(result["mine"].error_unrolled)


def test_random_directions_where_theta_is_long():
    problem = _linear()
    few = implicit.gradcheck(**problem, methods="dense", max_directions=1)
    assert few.directional.shape == (1,)
    assert few.agreeing == ("dense",)


def test_single_precision_asks_for_less():
    with jax.enable_x64(False):
        result = implicit.gradcheck(**_linear(), methods="dense")
    assert result.tolerance == 1e-2
    assert 1e-9 < result["dense"].error_differences < 1e-2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"eps": 0.0}, "eps must be finite, greater than 0"),
        ({"tolerance": -1.0}, "tolerance must be finite"),
        ({"max_directions": 0}, "max_directions must be a whole number"),
        ({"methods": "dens"}, "did you mean dense"),
        ({"unroll": lambda w, theta: w[:2], "methods": "dense"}, "step"),
    ],
)
def test_bad_settings(setting, message):
    with pytest.raises(InputError, match=message):
        implicit.gradcheck(**_linear(), **setting)


def test_unknown_problem():
    with pytest.raises(InputError, match="did you mean ridge"):
        implicit.problems.get("rigde")
