import jax
import pytest

from omd import agents
from omd.config import Config
from omd.types import EnvSpec, Transition

SPEC = EnvSpec("probe", observation_size=3, num_actions=2)


@pytest.fixture(autouse=True)
def _float64(quick_compilation):
    with jax.enable_x64(True):
        yield


@pytest.fixture
def build():
    """An agent with small networks, a state of its own, and hyper-parameters."""

    def make(**settings):
        settings = {"hidden": 6, "model_hidden": 5, "precision": "float64", **settings}
        config = Config(**settings)
        agent = agents.build(config, SPEC)
        return agent, agent.init(jax.random.key(1)), agents.hyper(config)

    return make


@pytest.fixture
def batch():
    def make(seed, size=16):
        keys = jax.random.split(jax.random.key(seed), 5)
        return Transition(
            jax.random.normal(keys[0], (size, 3)),
            jax.random.randint(keys[1], (size,), 0, 2),
            jax.random.normal(keys[2], (size,)),
            jax.random.normal(keys[3], (size, 3)),
            jax.random.bernoulli(keys[4], 0.3, (size,)),
        )

    return make
