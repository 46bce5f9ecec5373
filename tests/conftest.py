import jax
import pytest


@pytest.fixture
def quick_compilation():
    """For programs that run for milliseconds but compile for seconds."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
