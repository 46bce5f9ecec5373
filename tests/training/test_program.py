import dataclasses

import jax
import numpy as np
import pytest

from omd import envs
from omd.config import Config
from omd.runs.session import boundaries
from omd.settings import resolve
from omd.training import devices
from omd.training.program import Program
from omd.types import EnvSpec

DISCRETE = EnvSpec("CartPole-v1", 4, 2)
CONTINUOUS = EnvSpec("Pendulum-v1", 3, None, 1, (-2.0,), (2.0,))

SMALL = {
    "hidden": 8,
    "model_hidden": 8,
    "batch_size": 16,
    "random_steps": 50,
    "evaluate_every": 100,
    "evaluate_episodes": 2,
    "steps": 400,
    "precision": "float64",
}


def program(lanes, padded=None, **settings):
    config = Config(**{**SMALL, **settings})
    dtype = config.precision
    env = envs.make(config.env, lanes=lanes, dtype=dtype, distractors=config.distractors)
    config = resolve(config, env.spec)
    return Program(
        config,
        env,
        envs.make(
            config.env,
            lanes=lanes * config.evaluate_episodes,
            dtype=dtype,
            distractors=config.distractors,
        ),
        lanes,
        padded or config.model_hidden,
    )


def train(program, configs, cuts):
    state, metrics = advance(program, configs, cuts)
    return state, metrics, program.evaluate(state)


def advance(program, configs, cuts, ahead=False):
    state = program.place(program.fresh(configs))
    if ahead:
        program.compile_ahead(state, cuts)
    for steps, learn in cuts:
        state, metrics = program.advance(state, steps, learn=learn)
    return state, metrics


def numbers(state, lane):
    """All of a lane's numbers, its replay buffer's included."""
    leaves = [
        x for x in jax.tree.leaves(state) if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    ]
    return [np.asarray(x)[lane] for x in leaves]


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def test_a_lane_does_not_depend_on_its_neighbours():
    """200 updates alone and among ten, whose models have other widths and settings."""
    config = resolve(Config(**SMALL), DISCRETE)
    many = [
        dataclasses.replace(
            config,
            seeds=(seed,),
            model_hidden=1 + seed % 8,
            inner_learning_rate=1e-3 * (1 + seed),
            temperature=0.01 * (1 + seed),
        )
        for seed in range(10)
    ]
    cuts = [(50, False), (200, True)]
    together, metrics, evaluation = train(program(10, padded=8), many, cuts)
    alone, own, own_evaluation = train(
        program(1, padded=many[6].model_hidden, model_hidden=many[6].model_hidden), [many[6]], cuts
    )
    padded = {x.shape for x in numbers(together, 6)} - {x.shape for x in numbers(alone, 0)}
    assert padded, "the lane among ten runs at another width"
    for name in ("model_mse", "outer_loss", "inner_loss", "q_mean"):
        np.testing.assert_allclose(metrics[name][6], own[name][0], rtol=1e-9)
    np.testing.assert_allclose(together.replay.rows[6], alone.replay.rows[0], atol=1e-9)
    for mine, theirs in zip(
        jax.tree.leaves(together.agent.learner.w),
        jax.tree.leaves(alone.agent.learner.w),
        strict=True,
    ):
        np.testing.assert_allclose(mine[6], theirs[0], atol=1e-9)
    np.testing.assert_allclose(
        evaluation["episode_return"][6], own_evaluation["episode_return"][0], rtol=1e-12
    )


@pytest.mark.as_shipped
@pytest.mark.parametrize(
    "settings",
    [
        {"distractors": 2},
        {"env": "gymnasium:CartPole-v1", "objective": "mle"},
    ],
)
def test_cutting_a_run_or_compiling_it_in_threads_changes_no_bit(settings):
    whole = program(2, **settings)
    configs = [dataclasses.replace(whole.config, seeds=(s,)) for s in (0, 3)]
    one, _ = advance(whole, configs, [(50, False), (40, True)])
    cuts = [(50, False), (20, True), (20, True)]
    cut, _ = advance(program(2, **settings), configs, cuts, ahead=True)
    for lane in range(2):
        for a, b in zip(numbers(one, lane), numbers(cut, lane), strict=True):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.replay.rows[0], one.replay.rows[1])


@pytest.mark.parametrize("env", ["gymnasium:Pendulum-v1", "Pendulum-v1"])
def test_sac_lanes_do_not_depend_on_their_neighbours(env):
    settings = {"env": env, "objective": "mle", "evaluate_max_steps": 10}
    config = resolve(Config(**{**SMALL, **settings}), CONTINUOUS)
    many = [
        dataclasses.replace(config, seeds=(seed,), model_hidden=1 + seed, temperature=1.0 + seed)
        for seed in range(3)
    ]
    cuts = [(50, False), (60, True)]
    together, metrics, evaluation = train(program(3, padded=8, **settings), many, cuts)
    alone, own, own_evaluation = train(
        program(1, **(settings | {"model_hidden": 3})), [many[2]], cuts
    )
    np.testing.assert_allclose(together.replay.rows[2], alone.replay.rows[0], atol=1e-9)
    for name in ("model_mse", "inner_loss", "entropy", "temperature"):
        np.testing.assert_allclose(metrics[name][2], own[name][0], rtol=1e-9)
    np.testing.assert_allclose(
        evaluation["episode_return"][2], own_evaluation["episode_return"][0], rtol=1e-9
    )
    assert metrics["temperature"][2] > 2


def test_random_steps_explore_and_don_t_learn():
    made = program(1)
    config = dataclasses.replace(made.config, seeds=(0,))
    before = made.place(made.fresh([config]))
    w = jax.tree.map(np.asarray, before.agent)
    after, metrics = made.advance(before, 50, learn=False)
    for a, b in zip(jax.tree.leaves(w), jax.tree.leaves(after.agent), strict=True):
        np.testing.assert_array_equal(a, b)
    actions = np.asarray(after.replay.rows)[0, :50, 4]
    assert 10 < actions.sum() < 40
    signs = {"q_beyond", "policy_saturation", "dead_units", "dead_share"}
    assert set(metrics) == {"reward", "finite"} | signs


def test_a_diverged_lane_is_seen_and_leaves_the_others_alone():
    made = program(2)
    configs = [dataclasses.replace(made.config, seeds=(s,)) for s in (0, 1)]
    state = made.place(made.fresh(configs))
    state, _ = made.advance(state, 50, learn=False)
    poisoned = jax.tree.map(
        lambda x: x.at[0].set(np.nan) if x.dtype == np.float64 else x, state.agent.theta
    )
    healthy, metrics = made.advance(
        made.place(state._replace(agent=state.agent._replace(theta=poisoned))), 20, learn=True
    )
    np.testing.assert_array_equal(metrics["finite"], [False, True])
    reference, _ = advance(made, configs, [(50, False), (20, True)])
    for a, b in zip(numbers(healthy, 1), numbers(reference, 1), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.as_shipped
@pytest.mark.parametrize("lanes", [1, 3])
def test_a_chunk_copies_no_replay_buffer(lanes, monkeypatch):
    monkeypatch.setattr(devices, "count", lambda *_, **__: 1)
    some = program(lanes, steps=100_000)
    state = some.fresh([dataclasses.replace(some.config, seeds=(i,)) for i in range(lanes)])
    state = some.place(state)
    memory = some._jitted((10, True)).lower(state).compile().memory_analysis()
    assert memory.temp_size_in_bytes < state.replay.rows.nbytes / lanes


def test_a_chunk_can_be_a_part_of_a_larger_program():
    some = program(1)
    state = some.place(some.fresh([some.config]))
    state, _ = some.advance(state, 60, learn=False)

    @jax.jit
    def twice(state):
        return some.advance(some.advance(state, 5, learn=True)[0], 5, learn=True)[0]

    inside, outside = twice(state), some.advance(state, 10, learn=True)[0]
    for a, b in zip(numbers(inside, 0), numbers(outside, 0), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


def test_boundaries_cut_at_evaluations_and_where_learning_starts():
    asked = Config(steps=25, evaluate_every=10, random_steps=4, batch_size=4)
    config = resolve(asked, DISCRETE)
    # steps, whether they learn, whether an evaluation follows, the step after them
    assert boundaries(config, 0) == [
        (4, False, False, 4),
        (6, True, True, 10),
        (10, True, True, 20),
        (5, True, True, 25),
    ]
    assert boundaries(config, 10) == [(10, True, True, 20), (5, True, True, 25)]
    assert boundaries(config, 25) == []


def test_lanes_on_several_devices_run_programs_compiled_ahead(tmp_path, run_script):
    script = f"""
        import omd
        sizes = dict(hidden=4, model_hidden=2, batch_size=8, random_steps=20, evaluate_every=20)
        config = omd.Config(seeds=3, steps=60, evaluate_episodes=1, **sizes)
        run = omd.train(config, out={str(tmp_path)!r}, progress=False)
        assert run.program.devices == 2 and len(run.final_returns()) == 3
        assert sorted(run.metrics["step"].unique()) == [0, 20, 40, 60]
    """
    run_script(script, devices=2)


def test_a_time_limit_is_no_termination():
    one = program(1, env="Pendulum-v1", random_steps=250, evaluate_max_steps=10)
    state = one.place(one.fresh([one.config]))
    state, _ = one.advance(state, 250, learn=False)  # an episode ends by its limit after 200 steps
    rows = np.asarray(state.replay.rows)[0, :250]
    before, after = rows[:, :3], rows[:, -4:-1]
    cuts = np.flatnonzero((before[1:] != after[:-1]).any(axis=1))
    assert cuts.tolist() == [199]
    assert not rows[:, -1].any()
