"""Environment steps a second on HalfCheetah, one update each, beside SBX's SAC, and beside what
plain matrix products reach.

    pip install -e '.[mujoco,bench]'
    taskset -c 0,1 python benchmarks/halfcheetah.py          # two cores
    taskset -c 0,1 python benchmarks/halfcheetah.py --sbx PYTHON   # SBX in another environment

One lane, batch 256, critics and actor (256, 256), model (64, 64). Compile time is apart everywhere:
each program runs once before it is timed. Ours: replay, action and simulator included, evaluations
not; the time outside the update is a step's less that of the same update alone, chunk by chunk in
turn, the median over chunks. SBX: `learn` of its
own loop, same networks and batch, one update a step, no model.
"""

from __future__ import annotations

import statistics
import sys
import time

from side_by_side import begin, last_line

CHUNK, REPEATS = 100, 15

SBX = """
import time, gymnasium, numpy
from sbx import SAC
env = gymnasium.make("HalfCheetah-v5")
agent = SAC("MlpPolicy", env, learning_starts=300, batch_size=256, train_freq=1, gradient_steps=1,
            buffer_size=100_000, policy_kwargs=dict(net_arch=[256, 256]))
agent.learn(700)
rates = []
for _ in range(5):
    begin = time.perf_counter()
    agent.learn(200, reset_num_timesteps=False)
    rates.append(200 / (time.perf_counter() - begin))
print(numpy.median(rates))
"""


def rates(**settings) -> tuple[float, float, float, float]:
    """Steps a second (median over chunks), updates a second alone, FLOPs of an update, and the
    share of a step that is outside it. Runs in a process of its own."""
    import jax
    import jax.numpy as jnp

    from omd.config import Config
    from omd.training import folder

    config = Config(env="HalfCheetah-v5", steps=100_000, evaluate_episodes=1, **settings)
    program = folder.program_of(config)
    state = program.place(program.fresh([program.config]))
    state, _ = program.advance(state, 300, learn=False)

    # copies: what `advance` is given is gone
    agents, buffer, hyper = jax.tree.map(
        lambda x: jnp.array(x[0]), (state.agent, state.replay, state.hyper)
    )
    shape = (program.agent.objective.minibatches, program.config.batch_size)
    batches = program._minibatches(buffer, jax.random.bits(jax.random.key(0), shape, "uint32"))

    def update(agents, key, batches):
        return program.agent.update(agents, batches, key, hyper)

    @jax.jit
    def run(agents, batches):  # batches are an argument: constants would be folded
        keys = jax.random.split(jax.random.key(1), CHUNK)
        return jax.lax.scan(lambda agents, key: update(agents, key, batches), agents, keys)[0]

    steps, updates = [], []
    for _ in range(REPEATS + 1):  # in turn, so that both meet the same noise of the machine
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(program.advance(state, CHUNK, learn=True))
        middle = time.perf_counter()
        agents = jax.block_until_ready(run(agents, batches))
        steps.append((middle - begin) / CHUNK)
        updates.append((time.perf_counter() - middle) / CHUNK)
    steps, updates = steps[1:], updates[1:]  # the first compiles
    flops = jax.jit(update).lower(agents, jax.random.key(1), batches).compile().cost_analysis()
    outside = [1 - update / step for step, update in zip(steps, updates, strict=True)]
    rates = (1 / statistics.median(seconds) for seconds in (steps, updates))
    return *rates, flops["flops"], statistics.median(outside)


def _rates(**settings: str) -> tuple[float, float, float]:
    code = "import sys; sys.path.insert(0, 'benchmarks'); import halfcheetah;"
    line = last_line([sys.executable, "-c", code + f"print(*halfcheetah.rates(**{settings}))"])
    steps, updates, flops, outside = (float(x) for x in line.split())
    print(
        f"{', '.join(settings.values())}: {steps:.1f} steps/s (median of {REPEATS}); "
        f"{updates:.1f} updates/s alone, {flops / 1e6:.0f} MFLOP each; "
        f"{outside:.1%} of the time outside them",
        flush=True,
    )
    return steps, updates, flops


def main() -> None:
    python = begin(__doc__.splitlines()[0])
    code = (
        "import os, sys; os.environ['NPROC'] = str(len(os.sched_getaffinity(0)));"
        "sys.path.insert(0, 'benchmarks'); import roofline;"
        "print(roofline.reachable({(512, 256, 256): 1})[1], os.environ['NPROC'])"
    )
    reachable, cores = last_line([sys.executable, "-c", code]).split()
    print(f"reachable: {float(reachable):.1f} GFLOP/s for 512×256×256 on {cores} cores")
    plain, _, _ = _rates(objective="none")
    _rates(objective="mle")
    omd, updates, flops = _rates(objective="omd", hypergradient="identity")
    _rates(objective="omd", hypergradient="gauss-newton")
    achieved = updates * flops / 1e9
    print(f"achieved by an OMD update: {achieved:.1f} GFLOP/s, {achieved / float(reachable):.2f}")
    if python is None:
        return
    sbx = float(last_line([python, "-c", SBX]))
    print(f"SBX SAC: {sbx:.1f} steps/s; our SAC {plain / sbx:.2f} ×, OMD {omd / sbx:.2f} ×")


if __name__ == "__main__":
    main()
