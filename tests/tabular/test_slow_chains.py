"""Chains that mix too slowly for sweeps: a long walk is solved in a few Newton steps."""

import jax
import numpy as np
import pytest

from omd import tabular
from omd.errors import InputError
from omd.tabular import estimation


def test_a_bus_engine_with_many_bins_takes_a_few_steps():
    with jax.enable_x64(True):
        mdp = estimation.bus_engine((0.3919, 0.5953, 0.0128), bins=600)(np.array([10.075, 0.344]))
        found = tabular.solve(mdp, operator="hard")
        # 1075 improvements without factorisations; 11 of policy iteration from v = 0
        assert int(found.iterations) <= 16
        assert int(found.status) == tabular.Status.CONVERGED
        v = np.asarray(found.v)
        rows, index = np.asarray(mdp.transition.probability), np.asarray(mdp.transition.index)
        image = (np.asarray(mdp.reward) + 0.9999 * (rows * v[index]).sum(axis=-1)).max(axis=-1)
        assert np.abs(image - v).max() <= 1e-13 * np.abs(v).max()


def test_a_list_where_a_function_is_asked_for():
    with pytest.raises(InputError, match="actions must be a function, but is a list"):
        tabular.from_callables(["a"], ["x"], lambda s, a: {"a": 1.0}, lambda *_: 0.0, discount=0.5)
