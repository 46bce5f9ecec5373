"""Environments of one's own that aren't as Gymnasium asks: one sentence, never another number."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import omd
from omd.envs import from_gymnasium
from omd.envs import spaces as ours
from omd.envs.host import Lanes, observation_size, release
from omd.errors import InputError, Notice


class Walk(gymnasium.Env):
    """Ten steps at [0, 0, 0]."""

    observation_space = spaces.Box(-1, 1, (3,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return self.observation(), {}

    def step(self, action):
        self.time += 1
        return self.observation(), 1.0, False, self.time > 9, {}

    def observation(self):
        return np.zeros(3)


class Silent(Exception):
    def __str__(self):
        raise RuntimeError


def raising(error):
    def step(self, action):
        raise error

    return step


def given(**changes):
    """A step that gives something else in a place."""
    places = {"observation": 0, "reward": 1, "terminated": 2, "truncated": 3}

    def step(self, action):
        answer = list(Walk.step(self, action))
        for name, value in changes.items():
            answer[places[name]] = value
        return tuple(answer)

    return step


def lanes(**members):
    made = type("Own", (Walk,), members)
    size = observation_size("own:E", made.observation_space)
    found = Lanes(made, "own:E", first=0, count=1, size=size, dtype=np.float32)
    found.reset(np.array([3]))
    return found


def stepped(host, count=1):
    for clock in range(count):
        rows = host.step(*np.array([[0], [clock], [7]], np.int32), np.array([1]))
    return rows


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"step": raising(ValueError("two\nlines"))}, "ValueError: two lines .test_strange.py, "),
        ({"step": raising(KeyError("lost"))}, "KeyError: 'lost'"),
        ({"step": raising(Silent())}, "Silent .test_strange"),
        ({"step": raising(SystemExit(3))}, "SystemExit: 3"),
        ({"step": lambda *_: None}, "TypeError"),
        ({"step": lambda *_: (np.zeros(3), 1.0, False, {})}, "not enough values"),
        ({"step": given(observation=np.zeros(4))}, r"shape .4,., where its space has 3"),
        ({"step": given(observation=None)}, "where its space has 3 numbers"),
        ({"step": given(observation="abc")}, "ValueError"),
        ({"step": given(reward=None)}, "TypeError"),
        ({"step": given(reward="x")}, "ValueError"),
        ({"step": given(reward=np.ones(2))}, "TypeError"),
        # a text is true, whatever it says
        ({"step": given(terminated="False")}, "gives 'False' as terminated: give True or False"),
        ({"step": given(terminated=None)}, "gives None as terminated"),
        ({"step": given(truncated=np.array([True]))}, "as truncated"),
        # these would count as other observations
        (
            {"observation_space": spaces.Discrete(3), "observation": lambda _: -1},
            "the observation -1 isn't in Discrete",
        ),
        (
            {
                "observation_space": spaces.MultiDiscrete([2, 3]),
                "observation": lambda _: np.array([2, 0]),
            },
            "isn't in MultiDiscrete",
        ),
    ],
)
def test_what_a_step_can_not_give_names_environment_and_lane(members, words):
    with pytest.raises(RuntimeError, match=f"environment 'own:E', lane 0: .*{words}") as caught:
        stepped(lanes(**members))
    assert "\n" not in str(caught.value)


def test_what_a_step_may_give():
    answer = {"reward": np.int64(3), "terminated": np.bool_(False), "truncated": np.array(1)}
    rows = stepped(lanes(step=given(observation=np.zeros((3, 1), int), **answer)))
    assert (rows.reward, rows.terminated, rows.truncated) == (3, False, True)
    rows = stepped(lanes(observation_space=spaces.Discrete(3, start=4), observation=lambda _: 5))
    assert rows.observation.tolist() == [[0, 1, 0]]


def close(self):
    raise OSError("gone")


def test_one_that_can_not_be_closed_has_done_its_work():
    with pytest.warns(Notice, match="'own:E' raises when it is closed, OSError: gone"):
        release(type("Own", (Walk,), {"close": close})(), "own:E")


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Box(-1e300, 1e300, (1,), np.float64), "no finite bounds"),
        (spaces.Box(-3e38, 3e38, (1,)), "no finite bounds"),
        (spaces.Box(-1, 1, (0,)), "no component"),
        (spaces.Box(np.array([0.0, 2.0]), np.array([1.0, 2.0])), "component 1 lies between 2.0"),
        (spaces.Box(1, 1 + 1e-12, (1,), np.float64), "float32 leaves no choice"),
        (spaces.Discrete(10**9), "has 1,000,000,000 actions"),
        (spaces.Dict(a=spaces.Discrete(2)), "takes actions from Dict"),
    ],
)
def test_actions_that_nobody_can_choose(space, words):
    with pytest.raises(InputError, match=words):
        ours.action_fields("own:E", space)
    reversed_ends = spaces.Box(-1, 1, (2,))
    reversed_ends.low, reversed_ends.high = reversed_ends.high, reversed_ends.low
    with pytest.raises(InputError, match=r"between 1.0 and -1.0"):
        ours.action_fields("own:E", reversed_ends)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"observation_space": None}, "observations from None"),
        ({"observation_space": spaces.Box(-1, 1, (0,))}, "observations of 0 numbers"),
        ({"observation_space": spaces.Discrete(10**12)}, "1,000,000,000,000 numbers"),
        ({"action_space": None}, "actions from None"),
        ({"spec": "x"}, "isn't as gymnasium.Env asks, AttributeError"),
        ({"metadata": 3}, "isn't as gymnasium.Env asks, TypeError"),
    ],
)
def test_one_that_can_not_be_used_is_told_when_it_is_made(members, words):
    with pytest.raises(InputError, match=words):
        omd.envs.make(type("Own", (Walk,), members), lanes=1)


@pytest.mark.parametrize("rate", ["x", 0, -3, float("nan"), float("inf"), 10**6, True])
def test_a_rate_of_pictures_matters_to_films_only(rate):
    own = type("Own", (Walk,), {"metadata": {"render_fps": rate}})
    env = omd.envs.make(own, lanes=1)
    assert isinstance(env, from_gymnasium.GymnasiumEnv)
    with pytest.raises(InputError, match="render_fps"):
        _ = env.frames_per_second


def test_training_ends_with_the_sentence():
    own = type("Own", (Walk,), {"step": raising(OverflowError("the floor is gone"))})
    settings = {"steps": 20, "random_steps": 10, "batch_size": 4, "hidden": 4, "objective": "none"}
    with pytest.raises(InputError, match=r"lane 0: OverflowError: the floor is gone .*: mend it"):
        omd.train(own, **settings, evaluate_every=10, out=None, progress=False)
