"""Every solver against exact rationals (hard) or 80 digits (soft), to 1e-6 in every entry."""

import functools
import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from omd import tabular

spec = importlib.util.spec_from_file_location("zoo", pathlib.Path(__file__).with_name("zoo.py"))
zoo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(zoo)

BY_NAME = {case.name: case for case in zoo.CASES}
METHODS = (
    "newton",
    "value_iteration",
    "modified_policy_iteration",
    "inexact_policy_iteration",
)


@functools.cache
def exact(name):
    v, q = zoo.solve_exactly(BY_NAME[name])
    return (
        np.asarray([float(x) for x in v]),
        np.asarray([[-np.inf if x is None else float(x) for x in row] for row in q]),
    )


def padded(case):
    """(P, r, mask) in one shape, so that cases share programs: states are repeated, whose
    values are those of the originals, and actions that no state offers are added."""
    p, r = case.tables()
    states, actions, _ = p.shape
    again = np.arange(SIZE) % states
    wide = np.zeros((SIZE, 4, SIZE))
    wide[:, :actions, :states] = p[again]
    wide[:, actions:, 0] = 1
    earned = np.full((SIZE, 4), -np.inf)
    earned[:, :actions] = r[again]
    return wide, earned, again


SIZE = 24


def solved(case, tables, **settings):
    mdp = tabular.MDP(*tables, float(case.discount))
    if case.temperature is None:
        return tabular.solve(mdp, operator="hard", **settings)
    return tabular.solve(mdp, float(case.temperature), **settings)


def test_there_are_thirty():
    assert len(zoo.CASES) == 30


@pytest.mark.as_shipped
@pytest.mark.parametrize("double", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("name", list(BY_NAME))
def test_every_solver(name, double):
    case, (v, q) = BY_NAME[name], exact(name)
    p, r, again = padded(case)
    # the arithmetic is the same inside: two suffice where the tables are rounded
    for method in METHODS if double else (METHODS[0], METHODS[-1]):
        with jax.enable_x64(double):
            solution = solved(case, (p, r), method=method)
            message = f"{method}: {solution.message}"
            found_v, found_q = np.asarray(solution.v), np.asarray(solution.q)
            assert found_v.dtype == (np.float64 if double else np.float32)
        assert solution.status == tabular.Status.CONVERGED, message
        np.testing.assert_allclose(found_v, v[again], rtol=1e-6, atol=1e-9, err_msg=message)
        assert np.isneginf(found_q[:, q.shape[1] :]).all()
        found_q, wanted_q = found_q[:, : q.shape[1]], q[again]
        np.testing.assert_allclose(found_q, wanted_q, rtol=1e-6, atol=1e-9, err_msg=message)
        # the certificate: rounding of the result to float32 comes on top
        apart = np.abs(found_v - v[again]).max()
        rounding = np.abs(v).max() * (1e-14 if double else 1e-7)
        assert apart <= float(solution.error) + rounding, message


def test_every_solver_without_a_mask():
    """Cases of one shape, as they stand."""
    for name in ("random hard near 1", "random hard ±1e4", "soft near 1", "warm at 0.999"):
        case, (v, _) = BY_NAME[name], exact(name)
        for method in METHODS:
            solution = solved(case, case.tables(), method=method)
            assert solution.status == tabular.Status.CONVERGED
            np.testing.assert_allclose(solution.v, v, rtol=1e-6, atol=1e-9)
