"""The solvers alone, on matrices, against NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from omd import implicit, parts
from omd.errors import InputError
from omd.implicit import Status, registry

N = 6


def _matrix(seed, kind="general"):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(N, N))
    if kind == "definite":
        return matrix @ matrix.T / N + 0.2 * np.eye(N)
    if kind == "contraction":  # I − γP, as in tabular control
        p = rng.random((N, N))
        return np.eye(N) - 0.8 * p / p.sum(1, keepdims=True)
    return matrix + 3 * np.eye(N)


@eqx.filter_jit
def _compiled(method, matrix, g, check):
    tree = {"a": g[:2], "b": (g[2:].reshape(2, 2),)}
    _, unravel = ravel_pytree(tree)
    u, report = method.solve(lambda v: unravel(matrix.T @ ravel_pytree(v)[0]), tree, check=check)
    assert jax.tree.structure(u) == jax.tree.structure(tree)
    return ravel_pytree(u)[0], report


def _solve(method, matrix, g, check=False):
    """method on (matrix)ᵀ u = g with u and g as pytrees; u comes back flat.

    Settings go in as arrays, so that methods that differ in nothing else share a program.
    """
    return _compiled(jax.tree.map(jnp.asarray, method), jnp.asarray(matrix), jnp.asarray(g), check)


_G = np.random.default_rng(7).normal(size=N)
_EYE = np.eye(N)


def _status(report):
    return Status(int(report.status))


@pytest.mark.parametrize(
    ("method", "kind", "expected"),
    [
        (implicit.Dense(), "general", lambda a: np.linalg.solve(a.T, _G)),
        (implicit.Dense(0.5), "general", lambda a: np.linalg.solve(a.T + 0.5 * _EYE, _G)),
        (implicit.PseudoInverse(), "general", lambda a: np.linalg.solve(a.T, _G)),
        (implicit.CG(rtol=1e-12), "definite", lambda a: np.linalg.solve(a, _G)),
        (implicit.CG(0.5, 1e-12), "definite", lambda a: np.linalg.solve(a + 0.5 * _EYE, _G)),
        (implicit.GMRES(rtol=1e-12), "general", lambda a: np.linalg.solve(a.T, _G)),
        (implicit.GMRES(0.5, 1e-12), "general", lambda a: np.linalg.solve(a.T + 0.5 * _EYE, _G)),
        (implicit.GMRES(rtol=1e-10, restart=3), "definite", lambda a: np.linalg.solve(a, _G)),
        (implicit.NormalCG(rtol=1e-12), "general", lambda a: np.linalg.solve(a.T, _G)),
        (
            implicit.NormalCG(0.5, 1e-12),
            "general",
            lambda a: np.linalg.solve(a @ a.T + 0.5 * _EYE, a @ _G),
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, implicit.AbstractMethod) else None,
)
def test_solves_what_it_says(method, kind, expected):
    matrix = _matrix(0, kind)
    u, report = _solve(method, matrix, _G)
    np.testing.assert_allclose(u, expected(matrix), rtol=1e-9, atol=1e-9)
    assert _status(report) == Status.CONVERGED
    true = np.linalg.norm(matrix.T @ np.asarray(u) - _G) / np.linalg.norm(_G)
    np.testing.assert_allclose(report.residual, true, rtol=1e-6, atol=1e-14)
    if getattr(method, "damping", 0.0) > 0:
        assert report.residual > 1e-3  # the damping's own error is not hidden
        assert report.solve_residual < 1e-9


def test_pseudo_inverse_is_the_minimum_norm_solution():
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(N, 3)) @ rng.normal(size=(3, N))
    expected = np.linalg.pinv(matrix.T) @ _G
    u, report = _solve(implicit.PseudoInverse(), matrix, _G)
    np.testing.assert_allclose(u, expected, rtol=1e-10, atol=1e-12)
    outside = np.linalg.norm(matrix.T @ expected - _G) / np.linalg.norm(_G)
    assert outside > 0.1
    np.testing.assert_allclose(report.residual, outside, rtol=1e-10)
    assert _status(report) == Status.CONVERGED

    in_range = matrix.T @ rng.normal(size=N)
    u, report = _solve(implicit.PseudoInverse(), matrix, in_range)
    assert report.residual < 1e-12

    u, report = _solve(implicit.NormalCG(rtol=1e-12), matrix, _G)
    np.testing.assert_allclose(u, expected, rtol=1e-8)

    u, report = _solve(implicit.Dense(), matrix, _G)
    assert _status(report) in (Status.SINGULAR, Status.NON_FINITE)


def test_pseudo_inverse_cuts_small_singular_values():
    matrix = np.diag([3.0, 2.0, 1.0, 1.0, 1.0, 1e-3])
    sharp, _ = _solve(implicit.PseudoInverse(), matrix, _G)
    cut, _ = _solve(implicit.PseudoInverse(rcond=1e-2), matrix, _G)
    np.testing.assert_allclose(sharp[-1], _G[-1] * 1e3)
    assert cut[-1] == 0
    np.testing.assert_allclose(cut[:-1], sharp[:-1])


def test_identity_is_one_neumann_term():
    matrix = _matrix(2, "contraction")
    u, report = _solve(implicit.Identity(), matrix, _G, check=True)
    np.testing.assert_array_equal(u, _G)
    one, one_report = _solve(implicit.Neumann(1), matrix, _G, check=True)
    np.testing.assert_array_equal(one, u)
    expected = np.linalg.norm(matrix.T @ _G - _G) / np.linalg.norm(_G)
    for r in (report, one_report):
        np.testing.assert_allclose(r.residual, expected)
        assert _status(r) == Status.MEASURED


@pytest.mark.parametrize("step", [1.0, 0.5])
def test_neumann_is_the_partial_sum_and_tends_to_the_inverse(step):
    matrix = _matrix(2, "contraction")
    powers = [np.linalg.matrix_power(_EYE - step * matrix.T, j) for j in range(4)]
    u, _ = _solve(implicit.Neumann(4, step), matrix, _G)
    np.testing.assert_allclose(u, step * sum(powers) @ _G, rtol=1e-12)
    many, report = _solve(implicit.Neumann(2000, step), matrix, _G, check=True)
    np.testing.assert_allclose(many, np.linalg.solve(matrix.T, _G), rtol=1e-10)
    assert report.residual < 1e-12


def test_neumann_that_diverges_is_not_called_converged():
    _, report = _solve(implicit.Neumann(2000), -3 * _EYE, _G, check=True)
    assert _status(report) == Status.NON_FINITE


@pytest.mark.parametrize("rank", [N, 3])
def test_nystrom_is_exact_where_the_rank_covers_the_matrix(rank):
    rng = np.random.default_rng(3)
    factor = rng.normal(size=(N, rank - 1))
    matrix = factor @ factor.T
    u, report = _solve(implicit.Nystrom(rank, damping=0.1), matrix, _G, check=True)
    np.testing.assert_allclose(u, np.linalg.solve(matrix + 0.1 * _EYE, _G), rtol=1e-9)
    assert report.solve_residual < 1e-9
    assert report.residual > 1e-3


def test_nystrom_of_low_rank_lies_between():
    matrix = np.diag([100.0, 50.0, 1.0, 0.5, 0.3, 0.1])
    exact = np.linalg.solve(matrix + _EYE, _G)

    def error(rank):
        return np.linalg.norm(_solve(implicit.Nystrom(rank, damping=1.0), matrix, _G)[0] - exact)

    assert error(6) < 1e-10 < error(3)
    one, other = (_solve(implicit.Nystrom(3, 1.0, seed), matrix, _G)[0] for seed in (0, 1))
    assert not np.allclose(one, other)


def test_approximations_claim_nothing_unless_asked():
    for method in (implicit.Identity(), implicit.Neumann(4), implicit.Nystrom(3)):
        _, report = _solve(method, _matrix(0, "definite"), _G)
        assert _status(report) == Status.NOT_CHECKED
        assert np.isnan(report.residual)
        assert np.isnan(report.solve_residual)


_CHECKED = [
    implicit.CG(rtol=1e-6),
    implicit.NormalCG(rtol=1e-6),
    implicit.GMRES(rtol=1e-6, restart=3),
    implicit.Dense(),
]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    spread=st.floats(0, 6),
    kind=st.sampled_from(["general", "definite", "singular", "rotation"]),
    size=st.sampled_from([1e-30, 1.0, 1e30]),
)
def test_convergence_is_never_claimed_wrongly(seed, spread, kind, size):
    rng = np.random.default_rng(seed)
    left, _ = np.linalg.qr(rng.normal(size=(N, N)))
    right, _ = np.linalg.qr(rng.normal(size=(N, N)))
    values = 10.0 ** -np.linspace(0, spread, N)
    if kind == "singular":
        values[-2:] = 0
    matrix = {"rotation": left, "definite": left @ np.diag(values) @ left.T}.get(
        kind, left @ np.diag(values) @ right
    )
    g = size * rng.normal(size=N)
    for method in _CHECKED:
        u, report = _solve(method, matrix, g)
        if _status(report) == Status.CONVERGED:
            r = matrix.T @ np.asarray(u) - g
            if isinstance(method, implicit.NormalCG):
                left_over = np.linalg.norm(matrix @ r) / np.linalg.norm(matrix @ g)
            else:
                left_over = np.linalg.norm(r) / np.linalg.norm(g)
            assert left_over <= 1.01e-6


def test_how_failures_are_called():
    shift = np.roll(_EYE, 1, axis=0)  # GMRES makes no progress before N products
    _, report = _solve(implicit.GMRES(restart=3), shift, _EYE[0])
    assert _status(report) in (Status.STAGNATED, Status.MAX_STEPS)
    np.testing.assert_allclose(report.residual, 1.0)

    _, report = _solve(implicit.CG(rtol=1e-12, max_steps=2), _matrix(0, "definite"), _G)
    assert _status(report) == Status.MAX_STEPS
    assert report.iterations == 2
    assert report.residual > 1e-12

    _, report = _solve(implicit.CG(rtol=1e-8), _matrix(0, "contraction"), _G)
    assert _status(report) != Status.CONVERGED
    assert report.residual > 1e-3

    for method in _CHECKED:
        _, report = _solve(method, _matrix(0, "definite"), np.full(N, np.nan))
        assert _status(report) == Status.NON_FINITE


@pytest.mark.parametrize(("factor", "expected"), [(1.05, "CONVERGED"), (0.95, "MAX_STEPS")])
def test_the_tolerance_is_the_boundary(factor, expected):
    matrix = _matrix(0, "definite")
    _, first = _solve(implicit.CG(rtol=1e-12, max_steps=2), matrix, _G)
    _, second = _solve(implicit.CG(rtol=factor * first.residual, max_steps=2), matrix, _G)
    np.testing.assert_allclose(second.residual, first.residual)
    assert _status(second) == Status[expected]


@pytest.mark.parametrize("size", [1e-30, 1e25])
def test_squares_may_leave_the_range_of_single_precision(size):
    with jax.enable_x64(False):
        matrix = _matrix(0, "definite").astype(np.float32)
        g = (size * _G).astype(np.float32)
        u, report = _solve(implicit.CG(), matrix, g)
        assert _status(report) == Status.CONVERGED
        exact = np.linalg.solve(matrix.astype(float), g.astype(float))
        np.testing.assert_allclose(u / size, exact / size, rtol=1e-3)


def test_zero_gradient_has_the_zero_solution():
    for method in [*_CHECKED, implicit.PseudoInverse()]:
        u, report = _solve(method, _matrix(0, "definite"), np.zeros(N))
        np.testing.assert_array_equal(u, 0)
        assert report.residual == 0
        assert _status(report) == Status.CONVERGED


def test_conjugate_gradient_in_single_precision_with_small_eigenvalues():
    """lineax' CG alone answers NaN here: its breakdown test is not free of scale."""
    with jax.enable_x64(False):
        values = jnp.linspace(1e-4, 1e-2, 3000)
        g = jnp.cos(jnp.arange(3000.0))
        u, report = jax.jit(lambda g: implicit.CG().solve(lambda v: values * v, g))(g)
        assert u.dtype == jnp.float32
        assert _status(report) == Status.CONVERGED
        np.testing.assert_allclose(u, g / values, rtol=0.05)


def test_numeric_settings_can_be_vmapped():
    matrix = _matrix(0, "definite")
    dampings = jnp.array([0.0, 0.1, 2.0])
    batched, reports = jax.vmap(lambda d: _solve(implicit.CG(d, 1e-12), matrix, _G))(dampings)
    assert reports.status.shape == (3,)
    for i, damping in enumerate(dampings):
        alone, report = _solve(implicit.CG(damping, 1e-12), matrix, _G)
        np.testing.assert_allclose(batched[i], alone, rtol=1e-12)
        assert reports.iterations[i] == report.iterations
        np.testing.assert_allclose(reports.residual[i], report.residual, rtol=1e-3, atol=1e-14)


def test_statuses_have_sentences():
    assert all(status.sentence.endswith((".", ").")) for status in Status)
    _, report = _solve(implicit.Dense(), _matrix(0), _G)
    assert report.describe().startswith("converged: residual")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: implicit.CG(damping=-1e-3), "damping of cg is -0.001: .* of at least 0"),
        (lambda: implicit.CG(damping=float("nan")), "damping of cg is nan: give a finite number"),
        (lambda: implicit.CG(damping=jnp.array([0.1, -0.1])), "damping of cg is -0.1"),
        (lambda: implicit.CG(damping="a lot"), "damping of cg is 'a lot': give a number"),
        (lambda: implicit.CG(rtol=0.0), "rtol of cg is 0.0: give a number above 0"),
        (lambda: implicit.CG(max_steps=0), "max_steps of cg is 0: .* of at least 1"),
        (lambda: implicit.NormalCG(rtol=2.0), "rtol of normal-cg is 2.0: give a number below 1"),
        (lambda: implicit.GMRES(restart=1.5), "restart of gmres is 1.5: give a whole number"),
        (lambda: implicit.GMRES(max_restarts=True), "max_restarts .*: give a whole number"),
        (lambda: jax.jit(lambda n: implicit.CG(max_steps=n).max_steps)(3), "max_steps .* traced"),
        (lambda: implicit.Neumann(0), "terms of neumann is 0: .* of at least 1"),
        (lambda: implicit.Neumann(3, step=0.0), "step of neumann is 0.0: .* above 0"),
        (lambda: implicit.Nystrom(0), "rank of nystrom is 0"),
        (lambda: implicit.Nystrom(3, damping=0.0), "damping of nystrom is 0.0: .* above 0"),
        (lambda: implicit.Nystrom(seed=0.5), "seed of nystrom is 0.5: give a whole number"),
        (lambda: implicit.Dense(damping=np.inf), "damping of dense is inf"),
        (lambda: implicit.PseudoInverse(rcond=-1.0), "rcond of pseudo-inverse is -1.0"),
        (lambda: implicit.Unrolled(0), "steps of unrolled is 0"),
        (lambda: implicit.Refinement(lambda v: v, rtol=1.0), "rtol of .*Refinement is 1.0"),
        (lambda: implicit.Soba(max, max, 0.1, 0.0), "outer_step of Soba is 0.0: .* above 0"),
    ],
)
def test_bad_settings_are_refused_at_construction(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.stand_ins
def test_settings_are_declared_and_numpys_numbers_are_numbers():
    declared = {one.name: one for one in parts.settings_of(implicit.CG)}
    assert declared["rtol"].limits == "0 to 1 (0 and 1 left out)"
    assert all(
        one.metadata.get("help")
        for kind in registry.classes().values()
        for one in parts.settings_of(kind)
    )
    method = implicit.GMRES(np.float32(0.5), restart=np.int64(3), max_restarts=jnp.array(2))
    assert [type(x) for x in (method.damping, method.restart, method.max_restarts)] == [
        float,
        int,
        int,
    ]
    assert implicit.Nystrom(seed=jnp.array(3)).seed.dtype == jnp.int64


def test_products_bound_what_a_solve_takes():
    assert implicit.CG(max_steps=7).products == 7
    assert implicit.GMRES(restart=5, max_restarts=3).products == 15
    assert implicit.Neumann(4).products == 3
    assert [implicit.Identity().products, implicit.Dense().products] == [1, 1]
