import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import tabular
from omd.errors import InputError


def test_two_periods_by_hand():
    mdp = tabular.MDP(np.ones((1, 2, 1)), [[1.0, 3.0]], 0.5)
    hard = tabular.solve_finite(mdp, 2, operator="hard", terminal=[10.0])
    np.testing.assert_allclose(hard.v[:, 0], [3 + 0.5 * (3 + 5), 3 + 5])
    np.testing.assert_allclose(hard.q[1, 0], [6, 8])
    soft = tabular.solve_finite(mdp, 1, 2.0, discount=1.0)
    np.testing.assert_allclose(soft.v[0, 0], 2 * np.log(np.exp(0.5) + np.exp(1.5)))
    np.testing.assert_allclose(soft.policy[0, 0, 1], 1 / (1 + np.exp(-1)))


def test_ends_keep_their_terminal_value():
    p = np.zeros((2, 2, 2))
    p[..., 1] = 1
    mdp = tabular.MDP(p, [[-1.0, -2.0], [0.0, 0.0]], 1.0)
    found = tabular.solve_finite(mdp, 2, 1.0, terminal=[0.0, 7.0])
    np.testing.assert_allclose(found.v[:, 1], [7, 7])
    np.testing.assert_allclose(found.v[0, 0], np.log(np.exp(6) + np.exp(5)))


def test_a_long_horizon_is_an_endless_one():
    mdp = tabular.garnet(0, 12, 4, 3, discount=0.9)
    finite = tabular.solve_finite(mdp, 300, 0.1)
    np.testing.assert_allclose(finite.v[0], tabular.solve(mdp, 0.1).v, rtol=1e-12)


def test_the_last_value_counts_with_its_probability():
    """d v_0 / d terminal is the distribution after the horizon, discounted."""
    mdp = tabular.garnet(0, 5, 3, 2, discount=0.9)

    def start(terminal):
        return mdp.initial @ tabular.solve_finite(mdp, 3, 0.1, terminal=terminal).v[0]

    slope = jax.grad(start)(jnp.zeros(5))
    np.testing.assert_allclose(slope.sum(), 0.9**3, rtol=1e-12)
    np.testing.assert_allclose(jax.jacfwd(start)(jnp.zeros(5)), slope, rtol=1e-12)


def test_bad_input():
    mdp = tabular.paper_mdp()
    with pytest.raises(InputError, match="horizon must be a whole number of at least 1, but is 0"):
        tabular.solve_finite(mdp, 0)
    with pytest.raises(InputError, match=r"terminal has shape \(3,\)"):
        tabular.solve_finite(mdp, 2, terminal=np.zeros(3))
    with pytest.raises(InputError, match=r"discount must lie in \[0, 1\], but is 2"):
        tabular.solve_finite(mdp, 2, discount=2)
    with pytest.raises(InputError, match=r"operator must be soft or hard"):
        tabular.solve_finite(mdp, 2, operator="max")
