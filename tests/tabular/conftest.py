import jax
import numpy as np
import pytest

from omd import tabular


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def random_mdps():
    """(seed, count, states, actions, reward bounds) -> MDPs with a leading axis."""

    def make(seed, count, states=4, actions=3, low=-1.0, high=1.0, discounts=(0.5, 0.95)):
        rng = np.random.default_rng(seed)
        return jax.vmap(tabular.MDP)(
            # concentrations from 0.1 (almost deterministic) to 1 (uniform)
            np.stack(
                [
                    rng.dirichlet(np.full(states, c), size=(states, actions))
                    for c in rng.uniform(0.1, 1.0, count)
                ]
            ),
            rng.uniform(low, high, size=(count, states, actions)),
            rng.uniform(*discounts, size=count),
            rng.dirichlet(np.ones(states), size=count),
        )

    return make
