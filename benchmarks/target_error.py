"""How far a model's targets are from the true ones while it is trained, beside the difference
between the actions' values.

    python benchmarks/target_error.py
    python benchmarks/target_error.py --objective mle

Every few thousand steps, on 1024 transitions of the replay buffer: the root mean square of
y(θ) − y_true (the targets of eq. (10) less those of eq. (11)) and of Q(s, a) − y_true, the median
|Q(s, a₀) − Q(s, a₁)|, and the model's median squared error. One seed; options are those of
`omd train`.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp

from omd import envs
from omd.config import Config
from omd.runs.run import resolved
from omd.training import devices, replay
from omd.training.program import Program

EVERY, SAMPLE = 4000, 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=24_000)
    known, rest = parser.parse_known_args()
    names = [name.removeprefix("--").replace("-", "_") for name in rest[::2]]
    devices.prepare(1)
    config = resolved(Config(**dict(zip(names, map(_value, rest[1::2]), strict=True))))
    program = Program(
        config,
        envs.make(config.env, lanes=1),
        envs.make(config.env, lanes=config.evaluate_episodes),
        1,
        config.model_hidden,
    )
    agent = program.agent

    @jax.jit
    def errors(state, key):
        lane = jax.tree.map(lambda x: x[0], state)
        bits = jax.random.bits(key, (SAMPLE,), "uint32")
        batch = replay.sample(lane.replay, bits, program.env.spec)
        learner, made = lane.agent.learner, agent.model.predict(lane.agent.theta, batch, None)

        def targets(reward, next_observation):
            return agent.learner.targets(
                learner.target, reward, next_observation, batch, lane.hyper, key
            )

        true = targets(batch.reward, batch.next_observation)
        q = jnp.mean(jnp.stack(agent.learner.q(learner.w, batch.observation)), axis=0)
        return {
            "y(θ) − y_true": _rms(targets(made.reward, made.sample) - true),
            "Q − y_true": _rms(agent.learner.predictions(learner.w, batch) - true),
            "between actions": jnp.median(jnp.abs(q[0] - q[1])),
            "squared error of the model": jnp.median(
                jnp.sum(jnp.square(made.mean - batch.next_observation), axis=1)
            ),
        }

    state = program.place(program.fresh([config]))
    state, _ = program.advance(state, config.random_steps, learn=False)
    for k in range(known.steps // EVERY):
        state, _ = program.advance(state, EVERY, learn=True)
        returns = program.evaluate(state)["episode_return"]
        figures = errors(state, jax.random.key(k))
        print(
            f"step {int(state.step[0]):7,d}  return {float(returns[0]):5.0f}  "
            + "  ".join(f"{name} {float(value):.3g}" for name, value in figures.items()),
            flush=True,
        )


def _rms(x):
    return jnp.sqrt(jnp.mean(jnp.square(x)))


def _value(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


if __name__ == "__main__":
    main()
