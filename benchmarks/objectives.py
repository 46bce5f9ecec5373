"""An objective's update over MLE's: the step of the model and the inner step, nothing else.

    taskset -c 0,1 python benchmarks/objectives.py                    # VaGraM and (1, 0)-VAML
    taskset -c 0,1 python benchmarks/objectives.py --objectives paml taskmet

Soft Q-learning as on CartPole and SAC as on HalfCheetah, networks and minibatches of the defaults,
random transitions. Compile time is apart; the cases take turns, each in a process of its own;
medians and quartiles of microseconds, ratios those of the same round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from side_by_side import Case, begin, in_turn, ratio, spread

UPDATES = {"soft-q": 300, "sac": 30}
"""In one measurement."""


def updates(objective: str, learner: str, count: int) -> Iterator[tuple[float]]:
    """Microseconds of an update, mean over `count` in a row. For a process of its own."""
    import jax
    import jax.numpy as jnp

    from omd import agents
    from omd.config import Config
    from omd.settings import resolve
    from omd.types import EnvSpec, Transition

    if learner == "sac":
        bounds = ((-1.0,) * 6, (1.0,) * 6)
        spec = EnvSpec("probe", 17, None, 6, *bounds)
    else:
        spec = EnvSpec("probe", 4, num_actions=2)
    settings = resolve(Config(objective=objective, learner=learner), spec)
    agent, hyper = agents.build(settings, spec), agents.hyper(settings)
    keys = jax.random.split(jax.random.key(0), 4)
    total = agent.objective.minibatches * agent.objective.window
    shape = (total, settings.batch_size)
    observation, after = jax.random.normal(keys[0], (2, *shape, spec.observation_size))
    if learner == "sac":
        action = jax.random.uniform(keys[1], (*shape, 6), minval=-1.0)
    else:
        action = jax.random.randint(keys[1], shape, 0, 2)
    drawn = Transition(
        observation, action, jax.random.normal(keys[2], shape), after, jnp.zeros(shape, bool)
    )
    batches = [jax.tree.map(lambda x, i=i: x[i], drawn) for i in range(total)]

    @jax.jit
    def run(state):
        def one(state, key):
            return agent.update(state, batches, key, hyper)[0], None

        return jax.lax.scan(one, state, jax.random.split(keys[3], count))[0]

    state = jax.block_until_ready(run(agent.init(keys[3], hyper)))
    while True:
        start = time.perf_counter()
        state = jax.block_until_ready(run(state))
        yield (1e6 * (time.perf_counter() - start) / count,)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objectives", nargs="+", default=("vagram", "vaml"))
    parser.add_argument("--learners", nargs="+", default=tuple(UPDATES), choices=tuple(UPDATES))
    options = begin(parser)
    for learner in options.learners:
        cases = {
            name: Case(
                f"import objectives\n"
                f"figures = objectives.updates({name!r}, {learner!r}, {UPDATES[learner]})"
            )
            for name in ("mle", *options.objectives)
        }
        found = in_turn(cases, options.rounds)
        (base,) = found["mle"]
        for name in options.objectives:
            (mine,) = found[name]
            print(
                f"{learner}: {name} {spread(mine)} µs, mle {spread(base)} µs: "
                f"{spread(ratio(mine, base))} times",
                flush=True,
            )


if __name__ == "__main__":
    main()
