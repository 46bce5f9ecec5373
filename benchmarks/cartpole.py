"""Environment steps a second on CartPole, one update each, beside SBX's DQN, and beside what plain
matrix products reach.

    pip install -e '.[bench]'
    taskset -c 0,1 python benchmarks/cartpole.py          # two cores
    taskset -c 0,1 python benchmarks/cartpole.py --sbx PYTHON   # SBX in another environment

Compile time is apart everywhere, and the cases take turns, chunk by chunk; figures are medians and
quartiles, ratios those of the same round. Ours: replay, action and environment included,
evaluations not. SBX: `learn` of its own loop, same networks (32, 32), batch 256, one update a step,
no model.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from side_by_side import Case, begin_beside_sbx, in_turn, ratio, sbx, spread

CHUNK = 1000

SBX = """
import gymnasium
from sbx import DQN
env = gymnasium.make("CartPole-v1")
agent = DQN("MlpPolicy", env, learning_starts=1000, batch_size=256, train_freq=1, gradient_steps=1,
            buffer_size=200_000, policy_kwargs=dict(net_arch=[32, 32]))
"""


def rates(lanes: int, chunk: int = CHUNK, **settings) -> Iterator[tuple[float]]:
    """Lane-steps a second of chunks of steps, after a first that compiles. For a process of its
    own: JAX's devices depend on the lanes."""
    from omd.training import devices

    devices.prepare(lanes)
    import jax

    from omd.config import Config
    from omd.runs import folder
    from omd.runs.run import resolved

    config = resolved(Config(seeds=lanes, **settings))
    program = folder.program_of(config)
    state = program.place(program.fresh(folder.lanes_of(config)))
    state, _ = program.advance(state, config.random_steps, learn=False)
    state, _ = jax.block_until_ready(program.advance(state, chunk, learn=True))
    while True:
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(program.advance(state, chunk, learn=True))
        yield (lanes * chunk / (time.perf_counter() - begin),)


def case(lanes: int, chunk: int = CHUNK, **settings) -> Case:
    return Case(f"import cartpole\nfigures = cartpole.rates({lanes}, {chunk}, **{settings})")


def reachable(**settings) -> Case:
    """GFLOP/s of plain products in the mix of an update with these settings, GFLOP/s of the
    largest of them, and an update's GFLOP. On one thread."""
    return Case(
        "import roofline\nfrom omd.config import Config\nfrom omd.runs.run import resolved\n"
        "from omd.sweeps import cost\n"
        f"figures = roofline.reachable(cost.products_of(resolved(Config(**{settings}))))"
    )


def main() -> None:
    rounds, python = begin_beside_sbx(__doc__.splitlines()[0])
    cases = {"reachable": reachable(), "one": case(1), "ten": case(10)}
    cases["mle"] = case(1, objective="mle")
    if python:
        cases["sbx"] = sbx(SBX, python, first=1500, chunk=200)
    found = in_turn(cases, rounds)
    mixed, largest, work = found.pop("reachable")
    rate = {name: rates for name, (rates,) in found.items()}
    achieved = [a * b for a, b in zip(rate["one"], work, strict=True)]
    lines = {
        "one lane, lane-steps/s": rate["one"],
        "ten lanes, lane-steps/s": rate["ten"],
        "MLE, one lane, lane-steps/s": rate["mle"],
        "an OMD step over an MLE step": ratio(rate["mle"], rate["one"]),
        "reachable, GFLOP/s of 256×32×32": largest,
        "reachable, GFLOP/s of the update's products": mixed,
        "achieved, GFLOP/s": achieved,
        "achieved over reachable, 256×32×32": ratio(achieved, largest),
        "achieved over reachable, the update's products": ratio(achieved, mixed),
    }
    if python:
        lines["SBX's DQN, steps/s"] = rate["sbx"]
        lines["one lane over SBX"] = ratio(rate["one"], rate["sbx"])
        lines["ten lanes over SBX"] = ratio(rate["ten"], rate["sbx"])
    for name, figures in lines.items():
        print(f"{name:48} {spread(figures)}")


if __name__ == "__main__":
    main()
