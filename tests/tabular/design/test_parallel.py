import jax.numpy as jnp
import numpy as np
import pytest

from omd.errors import InputError
from omd.tabular.design.parallel import Lanes, check_lanes
from omd.tabular.design.projection import Model

TWO_WAYS = """
import jax, jax.numpy as jnp
from omd.tabular.design.parallel import lane_jit, map_lanes

def run(shared, lane):
    scale, name = shared
    count = jax.lax.while_loop(lambda c: c[0] < lane, lambda c: (c[0] + 1, c[1] * scale), (0, 1.0))
    return {name: count[1], "twice": 2 * lane}

shared, lanes = (jnp.asarray(1.5), "power"), jnp.asarray([3, 0, 7, 2, 5])
spread = lane_jit(map_lanes)(run, shared, lanes)
alone = jax.vmap(lambda lane: run(shared, lane))(lanes)
assert len(jax.devices()) == 3
for name in alone:
    assert spread[name].shape == (5,)
    assert (spread[name] == alone[name]).all(), (name, spread, alone)
"""


def test_devices_share_the_lanes(run_script):
    """Five lanes on three devices, each with a loop of its own length: as on one device."""
    run_script(TWO_WAYS, devices=3, timeout=120)


def lanes(bound=1.0, noise=None):
    theta = Model(jnp.zeros((2, 2, 2, 2)), jnp.zeros((2, 2, 2)))
    level = None if noise is None else jnp.asarray([0.0, noise])
    return Lanes(theta, jnp.zeros((2, 2, 2)), jnp.asarray([1.0, bound]), jnp.arange(2), level)


@pytest.mark.parametrize("bound", [-0.5, np.nan])
def test_bad_bounds(bound):
    with pytest.raises(InputError, match=f"norm_bound must be 0 or more, but is {bound} in lane 1"):
        check_lanes(lanes(bound))


def test_bad_noise():
    with pytest.raises(InputError, match=r"noise must be 0 or more, but is -0.1 in lane 1"):
        check_lanes(lanes(noise=-0.1))


def test_good_lanes():
    check_lanes(lanes(np.inf, 0.0))
