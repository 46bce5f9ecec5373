"""What a lane costs, against products counted by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from omd.config import Config
from omd.settings import Settings, resolve
from omd.sweeps import cost
from omd.types import EnvSpec


def settings(**asked) -> Settings:
    return resolve(Config(**asked), EnvSpec("CartPole-v1", 4, 2))


def test_products_of_loops_branches_and_batches_are_counted_as_often_as_they_run():
    def function(x, flag):
        x = jax.lax.scan(lambda c, _: (c @ c, None), x, length=5)[0]
        x = jax.lax.while_loop(lambda c: c[0, 0] < 1, lambda c: c.T @ c, x)
        wide = jnp.zeros((3, 7))
        y = jax.lax.cond(flag, lambda c: (c @ wide).sum(), lambda c: (c @ wide[:, :2]).sum(), x)
        return jax.vmap(lambda v: x @ v)(jnp.zeros((4, 3, 2))), y

    traced = jax.make_jaxpr(function)(jnp.zeros((3, 3)), True)
    found = cost._products(traced.jaxpr, trips=6)
    # XLA's vmap makes one product of the four: [3, 3] @ [3, 8] in either order
    assert found.pop((8, 3, 3), 0) + found.pop((3, 3, 8), 0) == 1
    assert found == {(3, 3, 3): 5 + 6, (3, 3, 7): 1}
    assert cost.flops_of({(2, 3, 4): 5}) == 5 * 2 * 2 * 3 * 4


def test_mle_products_are_those_of_its_equations():
    found = cost.products_of(settings(objective="mle", hidden=5, model_hidden=7, batch_size=16))
    # one state for the action, with both critics of three layers
    assert sum(n for (_, _, columns), n in found.items() if columns == 1) == 2 * 3
    # forward: reward and state networks of the model, before its step and after it, both target
    # critics at s', both critics at s; backward, where a first layer's input needs no gradient:
    # model and critics
    forward = (4 + 2 + 2) * 3
    backward = (2 + 2) * (3 + 2)
    assert sum(found.values()) == 2 * 3 + forward + backward
    # the critics' square layers: forward for targets and predictions, back once, and ∂/∂weight
    assert found[5, 5, 16] + found[16, 5, 5] == 2 * (2 + 1)
    assert found[5, 16, 5] == 2


def test_an_iterative_hypergradient_costs_the_products_that_it_may_take():
    def flops(steps):
        return cost.cost_of(settings(hypergradient=f"cg:damping=1e-3,max_steps={steps}")).flops

    assert flops(7) - flops(4) == 3 * (flops(5) - flops(4)) > 0
