"""What a script asks of a run: callbacks, no folder, the model, a pure function."""

import sys

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import omd
from omd.callbacks import Callback, Print, StopAtReturn, TensorBoard, WandB
from omd.runs import folder

SETTINGS = {
    "hidden": 8,
    "model_hidden": 4,
    "batch_size": 16,
    "random_steps": 50,
    "evaluate_every": 100,
    "evaluate_episodes": 2,
    "steps": 300,
    "seeds": 2,
}

pytestmark = pytest.mark.as_shipped


class Recorder(Callback):
    def begin(self, settings, path):
        self.calls = [("begin", path)]

    def __call__(self, evaluation):
        self.calls.append((evaluation.step, [row["seed"] for row in evaluation.rows]))

    def end(self):
        self.calls.append("end")


@pytest.fixture(scope="module")
def recorder():
    return Recorder()


@pytest.fixture(scope="module")
def run(recorder, tmp_path_factory):
    """In memory; whatever it would write goes to an empty folder that a test looks at."""
    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run = omd.train("CartPole-v1", out=None, progress=False, callbacks=[recorder], **SETTINGS)
    assert not list(folder.iterdir())
    return run


def test_callbacks_see_every_evaluation(run, recorder):
    assert recorder.calls == [
        ("begin", None),
        (0, [0, 1]),
        (100, [0, 1]),
        (200, [0, 1]),
        (300, [0, 1]),
        "end",
    ]


def test_a_run_without_a_folder_has_all_but_the_folder(run):
    assert run.path is None
    assert run.finished
    assert run.predict(np.zeros(4))[0].shape == ()
    assert len(run.evaluate(1)) == 2
    assert run.divergences() == {}
    with pytest.raises(omd.InputError, match="out=None"):
        run.folder  # noqa: B018
    with pytest.raises(omd.InputError, match="name"):
        omd.train("CartPole-v1", out=None, name="x", **SETTINGS)


def test_a_callback_stops_and_the_run_goes_on_to_the_same_numbers(run, tmp_path):
    seen = []
    stopped = omd.train(
        "CartPole-v1",
        out=tmp_path,
        progress=False,
        callbacks=[StopAtReturn(1, evaluations=2), seen.append],
        **SETTINGS,
    )
    assert [one.step for one in seen] == [0, 100]
    assert seen[1].mean_return == pytest.approx(
        np.mean([row["episode_return"] for row in seen[1].rows])
    )
    assert (stopped.step, stopped.finished) == (100, False)
    resumed = omd.train(resume=stopped.path, progress=False)
    assert resumed.metrics.equals(run.metrics)


def test_the_error_of_a_callback_saves_once_after_the_others(run, tmp_path, monkeypatch):
    save = folder.save

    def broken(evaluation):
        if evaluation.step in (0, 100)[len(seen) :]:
            seen.append(evaluation.step)
            raise KeyError("mine")

    seen, others, saved = [], [], []

    def saves(program, state, *rest):
        saved.append(int(state.step[0]))
        save(program, state, *rest)

    monkeypatch.setattr(folder, "save", saves)
    for number in (0, 100):  # also before the first step
        with pytest.raises(KeyError) as error:
            omd.train(
                *(["CartPole-v1"] if number == 0 else []),
                progress=False,
                callbacks=[broken, others.append],
                **(
                    {"out": tmp_path, "name": "x"} | SETTINGS
                    if number == 0
                    else {"resume": tmp_path / "x"}
                ),
            )
        assert "broken" in error.value.__notes__[0]
        assert omd.load(tmp_path / "x").step == number
    assert [one.step for one in others] == saved == [0, 100]
    assert omd.train(resume=tmp_path / "x", progress=False).metrics.equals(run.metrics)


@pytest.mark.stand_ins
def test_shipped_callbacks(capsys, tmp_path, monkeypatch):
    rows = [
        {"lane": 0, "seed": 3, "step": 10, "diverged": False, "episode_return": 2.0},
        {"lane": 1, "seed": 4, "step": 10, "diverged": False, "episode_return": 5.0},
    ]
    evaluation = omd.callbacks.Evaluation(10, 20, rows, 1.0, lambda: None)
    printed = Print(every=2)
    printed.begin(None, None)
    for _ in range(3):
        printed(evaluation)
    assert capsys.readouterr().out == "step 10 of 20: episode_return 3.5\n" * 2
    board = TensorBoard()
    with pytest.raises(omd.InputError, match="no folder"):
        board.begin(None, None)
    board.begin(None, tmp_path)
    board(evaluation)
    board.end()
    assert list((tmp_path / "tensorboard").iterdir())
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(omd.InputError, match=r"omd-rl\[wandb\]"):
        WandB()
    for wrong in (lambda: StopAtReturn(1, 0), lambda: Print(0)):
        with pytest.raises(omd.InputError, match="at least 1"):
            wrong()
    for value in (float("nan"), "x"):
        with pytest.raises(omd.InputError, match=r"give a (finite )?number"):
            StopAtReturn(value)
    lost = rows[0] | {"episode_return": float("nan")}
    assert omd.callbacks.Evaluation(10, 20, [lost, rows[1]], 1.0, print).mean_return == 5
    with pytest.raises(omd.InputError, match="give a list"):
        omd.train("CartPole-v1", out=None, callbacks=print, **SETTINGS)
    with pytest.raises(omd.InputError, match="don't give out"):
        omd.train(resume=tmp_path, out=None)
    with pytest.raises(omd.InputError, match="can't be called"):
        omd.train("CartPole-v1", out=None, callbacks=[StopAtReturn], **SETTINGS)


def test_weights_and_biases_gets_every_number(run, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    board = WandB(project="omd", dir=tmp_path)
    board.begin(run.config, None)
    row = {"lane": 1, "seed": 4, "step": 10, "diverged": False, "episode_return": 5.0}
    board(omd.callbacks.Evaluation(10, 20, [row], 1.0, lambda: None))
    board.end()
    (kept,) = tmp_path.rglob("*.wandb")
    assert b"seed-4/episode_return" in kept.read_bytes()
    assert b"random_steps" in kept.read_bytes()


def test_the_model_predicts_and_rolls_out(run):
    """Against θ of the second lane by hand: two tanh-free layers are the network's own affair, so
    the network's own `predict` is asked, once."""
    from omd.types import Transition

    states = np.linspace(-0.05, 0.05, 8).reshape(2, 4).astype(np.float32)
    actions = np.array([0, 1])
    theta = jax.tree.map(lambda x: x[1], run.state.agent.theta)
    batch = Transition(states, actions, np.zeros(2), states, np.zeros(2, bool))
    expected = run.program.agent.model.predict(theta, batch, jax.random.key(0))
    following, reward = run.model.predict(states, actions, seed=1)
    np.testing.assert_allclose(following, expected.mean, rtol=1e-6)
    np.testing.assert_allclose(reward, expected.reward, rtol=1e-6)
    one = run.model.predict(states[1], 1, seed=1)
    np.testing.assert_allclose(one[0], following[1], rtol=1e-6)
    planned = run.model.rollout(states, actions=np.array([[0, 1, 1], [1, 0, 1]]), seed=1)
    assert planned.observations.shape == (2, 4, 4)
    second, _ = run.model.predict(following, np.array([1, 0]), seed=1)
    np.testing.assert_allclose(planned.observations[:, 2], second, rtol=1e-5)
    own = run.model.rollout(states[0], 3)
    assert own.rewards.shape == (3,)
    assert own.actions[0] == run.act(states[0])
    for call in (
        lambda: run.model.predict(np.zeros(3), 0),
        lambda: run.model.predict(np.zeros(4), 2),
        lambda: run.model.predict(np.zeros(4), 0.5),
        lambda: run.model.predict(np.zeros((2, 4)), [0]),
        lambda: run.model.predict(np.zeros(4), 0, seed=9),
        lambda: run.model.rollout(np.zeros(4)),
    ):
        with pytest.raises(omd.InputError):
            call()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_model_is_a_gymnasium_environment(run):
    env = run.model.as_env(seed=1, max_episode_steps=5, terminated=lambda s: abs(s[0]) > 2.4)
    check_env(env)
    observation, _ = env.reset(seed=0)
    assert np.abs(observation).max() <= 0.05  # CartPole's own first states
    steps = [env.step(1) for _ in range(5)]
    following, reward = run.model.predict(observation, 1, seed=1)
    np.testing.assert_allclose(steps[0][0], following, rtol=1e-6)
    assert steps[0][1] == pytest.approx(float(reward))
    assert [one[3] for one in steps] == [False] * 4 + [True]
    with pytest.raises(gymnasium.error.ResetNeeded):
        run.model.as_env().step(0)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_agent_of_stable_baselines_trains_in_the_model(run):
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.env_checker import check_env

    env = run.model.as_env(max_episode_steps=20)
    check_env(env)
    agent = sb3.DQN("MlpPolicy", env, learning_starts=20, seed=0, device="cpu").learn(40)
    assert agent.num_timesteps == 40


def test_a_run_as_a_pure_function_has_the_same_bits(run):
    config = omd.Config(env="CartPole-v1", **SETTINGS)
    train = jax.jit(omd.make_train(config), compiler_options=omd.compiler_options())
    state, metrics = train(jax.random.key(1))
    lane = run.metrics[run.metrics["seed"] == 1]
    for name, values in metrics.items():
        np.testing.assert_array_equal(np.asarray(values, float), lane[name], err_msg=name)
    for mine, theirs in zip(
        jax.tree.leaves(state.agent), jax.tree.leaves(run.state.agent), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs[1])
    with pytest.raises(omd.InputError, match="runs in Python"):
        omd.make_train(omd.Config(env="gymnasium:CartPole-v1", **SETTINGS))


def test_an_objective_without_a_model(tmp_path):
    free = omd.train(
        "CartPole-v1", out=None, progress=False, objective="none", **SETTINGS | {"steps": 60}
    )
    with pytest.raises(omd.InputError, match="trains no model"):
        free.model  # noqa: B018


def test_all_that_is_public_is_there():
    assert {getattr(omd, name) is not None for name in omd.__all__} == {True}
    assert omd.__version__
