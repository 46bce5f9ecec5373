import jax
import jax.numpy as jnp
import pytest

from omd import agents
from omd.config import Config
from omd.settings import resolve
from omd.types import EnvSpec, Transition

SPEC = EnvSpec("probe", observation_size=3, num_actions=2)
CONTINUOUS = EnvSpec(
    "probe", 3, None, action_size=2, action_low=(-1.0, -3.0), action_high=(1.0, 5.0)
)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def build():
    """An agent with small networks, a state of its own, and hyper-parameters."""

    def make(**settings):
        settings = {
            "hidden": 6,
            "model_hidden": 5,
            "precision": "float64",
            "hypergradient": "identity",
            **settings,
        }
        spec = CONTINUOUS if str(settings.get("learner")).startswith("sac") else SPEC
        config = resolve(Config(**settings), spec)
        agent, hyper = agents.build(config, spec), agents.hyper(config)
        return agent, agent.init(jax.random.key(1), hyper), hyper

    return make


@pytest.fixture
def batch():
    def make(seed, size=16, continuous=False):
        keys = jax.random.split(jax.random.key(seed), 5)
        low, high = (jnp.array(b) for b in (CONTINUOUS.action_low, CONTINUOUS.action_high))
        return Transition(
            jax.random.normal(keys[0], (size, 3)),
            jax.random.uniform(keys[1], (size, 2), minval=low, maxval=high)
            if continuous
            else jax.random.randint(keys[1], (size,), 0, 2),
            jax.random.normal(keys[2], (size,)),
            jax.random.normal(keys[3], (size, 3)),
            jax.random.bernoulli(keys[4], 0.3, (size,)),
        )

    return make
