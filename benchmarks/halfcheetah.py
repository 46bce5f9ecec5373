"""Environment steps a second on HalfCheetah, one update each, beside SBX's SAC, and beside what
plain matrix products reach.

    pip install -e '.[mujoco,bench]'
    taskset -c 0,1 python benchmarks/halfcheetah.py          # two cores
    taskset -c 0,1 python benchmarks/halfcheetah.py --sbx PYTHON   # SBX in another environment

One lane, batch 256, critics and actor (256, 256), model (64, 64). Compile time is apart everywhere,
and the cases take turns, chunk by chunk; figures are medians and quartiles, ratios those of the
same round. Ours: replay, action and simulator included, evaluations not; the time outside the
update is a step's less that of the same update alone. SBX: `learn` of its own loop, same networks
and batch, one update a step, no model.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from side_by_side import Case, begin_beside_sbx, in_turn, ratio, sbx, spread

CHUNK = 100

SBX = """
import gymnasium
from sbx import SAC
env = gymnasium.make("HalfCheetah-v5")
agent = SAC("MlpPolicy", env, learning_starts=300, batch_size=256, train_freq=1, gradient_steps=1,
            buffer_size=100_000, policy_kwargs=dict(net_arch=[256, 256]))
"""

OURS = {
    "SAC": {"objective": "none"},
    "MLE": {"objective": "mle"},
    "OMD, identity": {"objective": "omd", "hypergradient": "identity"},
    "OMD, Gauss–Newton": {"objective": "omd", "hypergradient": "gauss-newton"},
}


def rates(**settings) -> Iterator[tuple[float, float, float, float]]:
    """Steps a second, updates a second alone, GFLOP of an update, and the share of a step that is
    outside it, chunk by chunk. For a process of its own."""
    import jax
    import jax.numpy as jnp

    import omd
    from omd import compilation
    from omd.config import Config
    from omd.runs import folder

    config = Config(env="HalfCheetah-v5", steps=100_000, evaluate_episodes=1, **settings)
    omd.use_cores(config)
    program = folder.program_of(config)
    state = program.place(program.fresh([program.config]))
    state, _ = program.advance(state, 300, learn=False)

    # copies: what `advance` is given is gone
    agents, buffer, hyper = jax.tree.map(
        lambda x: jnp.array(x[0]), (state.agent, state.replay, state.hyper)
    )
    shape = (program.agent.minibatches, program.config.batch_size)
    bits = jax.random.bits(jax.random.key(0), shape, "uint32")
    batches = program.chunk(CHUNK, learn=True).minibatches(buffer, bits)

    def update(agents, key, batches):
        return program.agent.update(agents, batches, key, hyper)

    def updates(agents, batches):  # batches are an argument: constants would be folded
        keys = jax.random.split(jax.random.key(1), CHUNK)
        return jax.lax.scan(lambda agents, key: update(agents, key, batches), agents, keys)[0]

    run = jax.jit(updates, compiler_options=compilation.widest())

    flops = jax.jit(update).lower(agents, jax.random.key(1), batches).compile().cost_analysis()
    state, _ = program.advance(state, CHUNK, learn=True)
    agents = jax.block_until_ready(run(agents, batches))
    while True:
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(program.advance(state, CHUNK, learn=True))
        middle = time.perf_counter()
        agents = jax.block_until_ready(run(agents, batches))
        step, alone = (middle - begin) / CHUNK, (time.perf_counter() - middle) / CHUNK
        yield 1 / step, 1 / alone, flops["flops"] / 1e9, 1 - alone / step


def main() -> None:
    rounds, python = begin_beside_sbx(__doc__.splitlines()[0])
    cases = {
        "reachable": Case(
            "import os\nos.environ['NPROC'] = str(len(os.sched_getaffinity(0)))\n"
            "import roofline\nfigures = roofline.reachable({(512, 256, 256): 1})"
        )
    }
    for name, settings in OURS.items():
        cases[name] = Case(f"import halfcheetah\nfigures = halfcheetah.rates(**{settings})")
    if python:
        cases["SBX"] = sbx(SBX, python, first=700, chunk=CHUNK)
    found = in_turn(cases, rounds)
    steps = {name: found[name][0] for name in OURS}
    for name in OURS:
        _, updates, work, outside = found[name]
        print(
            f"{name}: {spread(steps[name])} steps/s; {spread(updates)} updates/s alone, "
            f"{1e3 * work[0]:.0f} MFLOP each; outside them {spread([100 * x for x in outside])} %"
        )
    largest = found["reachable"][1]
    _, updates, work, _ = found["OMD, identity"]
    achieved = [a * b for a, b in zip(updates, work, strict=True)]
    print(
        f"an OMD update: {spread(achieved)} GFLOP/s achieved, {spread(largest)} reachable with "
        f"512×256×256: {spread(ratio(achieved, largest))}"
    )
    if python:
        (theirs,) = found["SBX"]
        print(f"SBX's SAC: {spread(theirs)} steps/s")
        for name in OURS:
            print(f"{name} over SBX's SAC: {spread(ratio(steps[name], theirs))}")


if __name__ == "__main__":
    main()
