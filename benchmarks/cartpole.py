"""Environment steps a second on CartPole, one update each, beside SBX's DQN, and beside what plain
matrix products reach.

    pip install -e '.[bench]'
    taskset -c 0,1 python benchmarks/cartpole.py          # two cores
    taskset -c 0,1 python benchmarks/cartpole.py --sbx PYTHON   # SBX in another environment

Compile time is apart everywhere: each program runs once before it is timed. Ours: replay, action
and environment included, evaluations not. SBX: `learn` of its own loop, same networks (32, 32),
batch 256, one update a step, no model.
"""

from __future__ import annotations

import statistics
import sys
import time

from side_by_side import begin, last_line

CHUNK, REPEATS = 1000, 5

SBX = """
import time, gymnasium, numpy
from sbx import DQN
env = gymnasium.make("CartPole-v1")
agent = DQN("MlpPolicy", env, learning_starts=1000, batch_size=256, train_freq=1, gradient_steps=1,
            buffer_size=200_000, policy_kwargs=dict(net_arch=[32, 32]))
agent.learn(1500)
rates = []
for _ in range(3):
    begin = time.perf_counter()
    agent.learn(1000, reset_num_timesteps=False)
    rates.append(1000 / (time.perf_counter() - begin))
print(numpy.median(rates))
"""


def lane_steps_per_second(lanes: int, chunk: int = CHUNK, **settings) -> list[float]:
    """Rates of chunks of steps, after a first that compiles. For a process of its own: JAX's
    devices depend on the lanes."""
    from omd.training import devices

    devices.prepare(lanes)
    import jax

    from omd.config import Config
    from omd.training import folder

    config = Config(seeds=lanes, **settings).resolved(continuous=False)
    program = folder.program_of(config)
    state = program.place(program.fresh(folder.lanes_of(config)))
    state, _ = program.advance(state, config.random_steps, learn=False)
    rates = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(program.advance(state, chunk, learn=True))
        rates.append(lanes * chunk / (time.perf_counter() - begin))
    return rates[1:]


def measured(lanes: int, **settings) -> float:
    code = (
        "import sys; sys.path.insert(0, 'benchmarks'); import cartpole;"
        f"print(*cartpole.lane_steps_per_second({lanes}, **{settings}))"
    )
    rates = [float(x) for x in last_line([sys.executable, "-c", code]).split()]
    what = ", ".join(f"{name} {value}" for name, value in settings.items())
    print(
        f"{what}, {lanes} lane(s): {statistics.median(rates):.0f} lane-steps/s "
        f"(median of {REPEATS}, best {max(rates):.0f})",
        flush=True,
    )
    return statistics.median(rates)


def reachable(**settings) -> tuple[float, float, float]:
    """GFLOP/s of plain products in the mix of an update with these settings, GFLOP/s of the
    largest of them, and the update's FLOPs. In a process of its own: on one thread."""
    code = (
        "import sys; sys.path.insert(0, 'benchmarks'); import roofline;"
        "from omd.config import Config; from omd.training.sweep import cost;"
        f"products = cost.products_of(Config(**{settings}));"
        "print(*roofline.reachable(products), cost.flops_of(products))"
    )
    mixed, largest, flops = map(float, last_line([sys.executable, "-c", code]).split())
    return mixed, largest, flops


def main() -> None:
    python = begin(__doc__.splitlines()[0])
    mixed, largest, flops = reachable()
    print(f"reachable: {largest:.1f} GFLOP/s for 256×32×32, {mixed:.1f} for the update's products")
    one, ten = measured(1, objective="omd"), measured(10, objective="omd")
    mle = measured(1, objective="mle")
    print(f"an OMD step takes {mle / one:.2f} × an MLE step")
    achieved = one * flops / 1e9
    print(
        f"achieved: {achieved:.1f} GFLOP/s, {achieved / largest:.2f} of 256×32×32, "
        f"{achieved / mixed:.2f} of the update's products"
    )
    if python is None:
        return
    sbx = float(last_line([python, "-c", SBX]))
    print(
        f"SBX DQN: {sbx:.0f} steps/s; ours with one lane {one / sbx:.1f} ×, ten {ten / sbx:.1f} ×"
    )


if __name__ == "__main__":
    main()
