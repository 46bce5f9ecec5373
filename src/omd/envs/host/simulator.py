"""One Gymnasium environment on the host, with what it takes to bring its state back."""

from __future__ import annotations

import dataclasses
import math
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import DTypeLike

from omd.envs.host.physics import Physics, log_warnings
from omd.envs.spaces import MOST_NUMBERS, kind
from omd.errors import InputError, Notice, install
from omd.parts import reason_of


@dataclasses.dataclass(frozen=True)
class Divergence:
    """Where a simulation stopped making sense."""

    step: int
    """The step that went wrong, counted from `reset`, the first being 1."""
    action: list[float]
    reason: str

    def __str__(self) -> str:
        numbers = ", ".join(f"{number:.4g}" for number in self.action)
        return f"step {self.step}, action [{numbers}]: {self.reason}"


class Lane:
    """A Gymnasium environment that begins every episode from an explicit seed.

    An episode is then its seed and its actions, which is what a checkpoint needs to hold; of
    Gymnasium's MuJoCo environments it is the simulator's state instead. Exceptions of the
    environment come out as a `RuntimeError` that names it, also kept in `failure`: compiled code
    hands on only their text. Where an observation or a reward isn't finite, or MuJoCo calls the
    simulation unstable, the lane has diverged: it gives NaN and terminates from there on, until it
    is reset.
    """

    def __init__(
        self, build: Callable[[], Any], id: str, index: int, size: int, dtype: DTypeLike
    ) -> None:
        """`build` makes the environment; `size` is the length of its flat observation."""
        self.env = build()
        # a Box2D world that isn't new remembers its earlier episodes (Gymnasium's issue 728)
        entry = str(self.env.spec.entry_point) if self.env.spec else ""
        worn = entry.startswith("gymnasium.envs.box2d")
        self._rebuild = build if worn else None
        self.physics = Physics.of(self.env)
        self._fatal = (FloatingPointError, *([self.physics.fatal] if self.physics else []))
        self.clock = 0
        """Steps since `reset`, over all episodes."""
        self.elapsed = 0
        """Steps in the running episode."""
        self.seed = -1
        """Of the running episode; −1 before the first."""
        self.actions: list[np.ndarray] = []
        """Taken in the running episode; the last one only, where there is `physics`."""
        self.observation: Float[np.ndarray, " obs"] = np.zeros(size, dtype)
        """The one to go on from."""
        self.divergence: Divergence | None = None
        self.failure: RuntimeError | None = None
        self._named = _Named(self, f"environment {id!r}, lane {index}")
        self._discrete = kind(self.env.action_space) == "Discrete"
        self._flat = kind(self.env.observation_space) == "Box"
        self._id = id

    def reset(self, seed: int) -> None:
        """Begin anew."""
        with self._named:
            self._begin(seed)
        self.clock, self.divergence = 0, None

    def step(
        self, clock: int, action: np.ndarray | np.generic, seed: int
    ) -> tuple[Float[np.ndarray, " obs"], float, bool, bool]:
        """Successor, reward, terminated, truncated; `seed` begins the next episode if one ended.

        `clock` tells whether the caller's state is the latest.
        """
        with self._named:
            if clock != self.clock:
                raise ValueError(
                    f"stepped from its state at step {clock} when it had already reached step "
                    f"{self.clock}; a host environment can't go back, so step its latest state "
                    "or restore a snapshot"
                )
            self.clock += 1
            if self.divergence is None:
                reward, terminated, truncated = self._advance(action)
            if self.divergence is not None:
                self.observation = np.full_like(self.observation, np.nan)
                return self.observation, np.nan, True, False
            successor = self.observation
            if terminated or truncated:
                self._begin(seed)
        return successor, reward, terminated, truncated

    def replay(self, seed: int, actions: np.ndarray, clock: int) -> None:
        """Play the running episode of a snapshot again."""
        with self._named:
            self._begin(seed)
            for action in actions:
                self._advance(action)
        self.clock = clock

    def go_on(
        self,
        seed: int,
        actions: np.ndarray,
        clock: int,
        elapsed: int,
        before: Float[np.ndarray, " n"],
        random: np.ndarray,
    ) -> None:
        """Bring back the simulator's state; `actions` holds the last one, if there was one."""
        assert self.physics is not None
        with self._named:
            self._begin(seed)
            if elapsed:
                self.physics.put(before, elapsed)
                self._advance(actions[-1])
        self.physics.random = random
        self.clock, self.elapsed = clock, elapsed

    def _begin(self, seed: int) -> None:
        if self._rebuild and self.seed >= 0:
            release(self.env, self._id)
            self.env = self._rebuild()
        self.seed, self.actions, self.elapsed = seed, [], 0
        self.observation = self._read(self.env.reset(seed=seed)[0])

    def _advance(self, action: np.ndarray | np.generic) -> tuple[float, bool, bool]:
        space = self.env.action_space
        if self._discrete:
            command: Any = int(action) + int(space.start)
        else:
            command = np.array(action, space.dtype).reshape(space.shape)
            if not _finite(command):
                return self._diverge(action, "the policy's action isn't finite")
            # float32 rounds a bound of float64 to either side of it
            command = np.clip(command, space.low, space.high)
        if self.physics:
            self.physics.note()
            self.actions.clear()
        self.actions.append(np.array(action))  # the memory of a callback's arguments isn't ours
        self.elapsed += 1
        try:
            observation, reward, terminated, truncated, _ = self.env.step(command)
        except self._fatal as error:
            return self._diverge(action, f"{type(error).__name__}: {error}")
        self.observation = self._read(observation)
        if self.physics and self.physics.unstable:
            return self._diverge(action, "MuJoCo finds the simulation unstable")
        if not _finite(self.observation):
            first = int(np.argmin(np.isfinite(self.observation)))
            value = float(self.observation[first])
            return self._diverge(action, f"number {first} of the observation is {value}")
        if not math.isfinite(self.observation.dtype.type(reward)):
            return self._diverge(action, f"the reward is {float(reward)}")
        if terminated.__class__ is not bool or truncated.__class__ is not bool:
            terminated, truncated = _truth("terminated", terminated), _truth("truncated", truncated)
        return float(reward), terminated, truncated

    def _diverge(self, action: np.ndarray | np.generic, reason: str) -> tuple[float, bool, bool]:
        numbers = [float(number) for number in np.ravel(action)]
        self.divergence = Divergence(self.clock, numbers, reason)
        return np.nan, True, False

    def _read(self, observation: Any) -> Float[np.ndarray, " obs"]:
        last = self.observation
        if not self._flat:
            import gymnasium

            space = self.env.observation_space
            if not space.contains(observation):  # else it may count as another one
                raise ValueError(f"the observation {observation!r} isn't in {space}")
            observation = gymnasium.spaces.flatten(space, observation)
        if np.iscomplexobj(observation):
            raise ValueError("the observation has complex numbers")
        with np.errstate(over="ignore"):  # it becomes inf, by which the lane has diverged
            numbers = np.array(observation, last.dtype)
        if numbers.size != last.size:
            raise ValueError(
                f"the observation has shape {numbers.shape}, where its space has {last.size} "
                "numbers"
            )
        return numbers.reshape(last.shape)


class _Named:
    """Turns exceptions in a block into a `RuntimeError` that names the lane, which keeps it."""

    def __init__(self, lane: Lane, name: str) -> None:
        self._lane, self._name = weakref.proxy(lane), name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception | SystemExit):
            failure = RuntimeError(f"{self._name}: {reason_of(error)}")
            self._lane.failure = failure
            raise failure from error


def _truth(name: str, value: Any) -> bool:
    """What a step says of an episode's end; raises `TypeError` for what says nothing, such as a
    text, which would count as true."""
    if np.ndim(value) == 0 and np.asarray(value).dtype.kind in "biu":
        return bool(value)
    raise TypeError(f"step gives {value!r} as {name}: give True or False")


def release(env: Any, id: str) -> None:
    """Close an environment; one that raises then has done its work, so that it is only told."""
    try:
        env.close()
    except Exception as error:
        warnings.warn(
            f"environment {id!r} raises when it is closed, {reason_of(error)}: mend it",
            Notice,
            stacklevel=2,
        )


def _finite(numbers: np.ndarray) -> bool:
    """Whether all are; a dot product tells most of the time, and faster."""
    flat = numbers.ravel()
    return math.isfinite(flat.dot(flat)) or bool(np.isfinite(flat).all())


def build(
    id: str,
    source: Any,
    render_mode: str | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Any:
    """One Gymnasium environment: `gymnasium.make` of an id or a spec, or a class or a function
    called, with `arguments`. Raises `InputError`, naming the extra where a package is missing."""
    import gymnasium

    options = dict(arguments or {})
    if "render_mode" in options:
        raise InputError(
            f"render_mode of {id!r} is {options['render_mode']!r}, but films choose it: leave it "
            "out of the arguments of the environment"
        )
    if render_mode is not None:
        options["render_mode"] = render_mode
    if callable(source) and not hasattr(source, "entry_point"):
        return _called(id, source, options)
    known = source if hasattr(source, "entry_point") else gymnasium.registry.get(source)
    try:
        if "mujoco" in str(known and known.entry_point):
            log_warnings()
        return gymnasium.make(source, disable_env_checker=True, **options)
    except gymnasium.error.DependencyNotInstalled as error:
        extra = next((e for e in ("box2d", "mujoco") if f"[{e}]" in str(error)), None)
        remedy = f"run `{install(extra)}`" if extra else str(error)
        raise InputError(f"environment {id!r} needs a package that is missing: {remedy}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"environment {id!r} can't be built: {reason_of(error)}") from error


def _called(id: str, factory: Any, options: dict[str, Any]) -> Any:
    """What a class or function makes; raises `InputError` where it raises, or makes something else
    than an environment."""
    import gymnasium

    try:
        env = factory(**options)
    except (Exception, SystemExit) as error:
        raise InputError(f"environment {id!r} can't be built: {reason_of(error)}") from error
    if not isinstance(env, gymnasium.Env):
        raise InputError(
            f"environment {id!r} made {type(env).__name__}, which is no gymnasium.Env: return one"
        )
    return env


def observation_size(id: str, space: Any) -> int:
    """Length of the flat observation; raises `InputError` for a Dict, an image and the like."""
    if kind(space) not in ("Box", "Discrete", "MultiBinary", "MultiDiscrete"):
        raise InputError(
            f"environment {id!r} gives observations from {space}: wrap it with "
            "gymnasium.wrappers.FlattenObservation so that they are flat vectors"
        )
    if kind(space) == "Box" and space.dtype == np.uint8 and len(space.shape) > 1:
        raise InputError(
            f"environment {id!r} gives images of shape {space.shape}, which no network here "
            "takes: use an environment that gives its state as a vector"
        )
    import gymnasium

    size = gymnasium.spaces.flatdim(space)
    if not 0 < size <= MOST_NUMBERS:
        raise InputError(
            f"environment {id!r} gives observations of {size:,} numbers, from {space}: at least 1 "
            f"and at most {MOST_NUMBERS:,} are taken here"
        )
    return size
