"""What was asked of a run: an environment, parts, and settings, some of them left open. Imports no
JAX: the command line reads its options from these fields."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Literal, SupportsIndex

from omd import catalogue, parts
from omd.errors import InputError
from omd.parts import setting

Part = Any
"""An instance of a part; its class would need JAX here."""
Widths = int | tuple[int, ...]
"""Units of hidden layers: one number for `LAYERS` layers, or a number a layer."""
LAYERS = 2
Activation = Literal["relu", "tanh", "silu", "gelu", "elu"]
"""Functions of `jax.nn` that are 0 at 0, as padded units need."""
ENV_HELP = "Environment id, or package.module:Class of your own; `omd list` shows ids."


_WHAT = "what to train"
_INNER = "inner loop (the learner, weights w)"
_OUTER = "outer loop (the model's parameters θ)"
_MODEL = "model"
_EVALUATION = "evaluation"
_ARITHMETIC = "arithmetic"
GROUPS = (_WHAT, _MODEL, _INNER, _OUTER, _EVALUATION, _ARITHMETIC)
"""Headings under which help and the reference show the settings."""


MOST_STEPS = 2_000_000_000
"""Of a lane, and of all that is counted by steps: they are counted in 32 bits."""
MOST_MODEL_STEPS = 1000
"""Of an update: each of them is a piece of the compiled program."""
MOST_UNITS = 100_000
"""Of a hidden layer: the matrix between two layers of so many takes 40 GB in float32."""
MOST_LAYERS = 64
"""Hidden layers of a network."""
MOST_ROLLOUT = 10_000
"""Steps: each takes a minibatch of the model's predictions at every update."""
MOST_UPDATES = 10_000
"""Of an environment step: the minibatches of all are drawn before the first."""
UPDATES_KEPT = 100
"""Updates whose rollouts the model buffer keeps."""
MOST_DISTRACTORS = 100_000
"""With so many, a replay buffer takes 800 kB a transition in float32 where both states are kept."""


def _by_learner(help: str, **limits: Any) -> Any:
    """A setting whose default is the learner's: None until the run is resolved."""
    return setting(None, help, by_learner=True, **limits)


@dataclasses.dataclass(frozen=True)
class Config:
    """One run: an environment, an objective for the model, and everything that shapes both loops.

    Environment, objective, learner, model and hypergradient are parts: a name with settings
    (`"vep:values=3"`, `"package.module:Class:key=value"`), a class, or an instance. Settings that
    are None take the learner's default: appendix D's for soft Q-learning, appendix F's for SAC, and
    those of the authors' programs where the paper leaves a value open. `omd.settings.resolve` fills
    them in. Raises `InputError` with one sentence for a value that can't work.
    """

    env: Any = setting("CartPole-v1", ENV_HELP, group=_WHAT)
    env_args: Any = setting(
        (),
        "What the environment is made with: key=value,key=value; in Python a mapping.",
        group=_WHAT,
    )
    objective: str | type | Part = setting(
        "omd", "What the model is trained for; `none` has no model.", part="objective", group=_WHAT
    )
    learner: str | type | Part = setting(
        "auto",
        "The inner learner; `auto` is soft-q for discrete actions, sac for continuous ones.",
        part="learner",
        group=_WHAT,
    )
    seeds: int | Iterable[SupportsIndex] = setting(
        1,
        "How many seeds to train side by side: 4 trains seeds 0, 1, 2 and 3. In Python also a "
        "tuple of the seeds themselves.",
        group=_WHAT,
    )
    steps: int | None = _by_learner(
        "Environment steps of each lane.", low=1, high=MOST_STEPS, group=_WHAT
    )

    learning_rate: float | None = _by_learner(
        "Learning rate of the model θ (outer loop).", low=0, open_low=True, lane=True, group=_OUTER
    )
    inner_learning_rate: float | None = _by_learner(
        "Learning rate of the learner's networks, w among them (inner loop).",
        low=0,
        open_low=True,
        lane=True,
        group=_INNER,
    )
    tau: float | None = _by_learner(
        "Step of the target network towards w.",
        low=0,
        high=1,
        open_low=True,
        lane=True,
        group=_INNER,
    )
    temperature: float | None = _by_learner(
        "Temperature α of softmax and log-sum-exp; SAC learns its own and starts with this one.",
        low=0,
        open_low=True,
        lane=True,
        group=_INNER,
    )
    epsilon: float | None = _by_learner(
        "Probability of a random action while training.", low=0, high=1, lane=True, group=_INNER
    )
    discount: float = setting(
        0.99, "Discount factor γ, below 1.", low=0, high=1, open_high=True, lane=True, group=_INNER
    )

    hidden: Widths | Iterable[SupportsIndex] | str | None = _by_learner(
        "Units of the hidden layers of the learner's networks: 64 for two layers of 64, or a "
        "number a layer, 64x32x16 (one layer: 64x).",
        low=1,
        high=MOST_UNITS,
        layers=LAYERS,
        most=MOST_LAYERS,
        group=_INNER,
    )
    model_hidden: Widths | Iterable[SupportsIndex] | str | None = _by_learner(
        "Units of the hidden layers of the model's networks, written like `hidden`.",
        low=1,
        high=MOST_UNITS,
        layers=LAYERS,
        most=MOST_LAYERS,
        lane=True,
        group=_MODEL,
    )
    activation: Activation = setting(
        "relu", "After each hidden layer of the learner's networks.", group=_INNER
    )
    model_activation: Activation = setting(
        "relu", "After each hidden layer of the model's networks.", group=_MODEL
    )
    batch_size: int = setting(
        256, "Transitions in a minibatch.", low=1, high=MOST_STEPS, group=_INNER
    )
    inner_steps: int = setting(
        1, "K, Q-network updates per model update.", low=1, high=MOST_STEPS, group=_INNER
    )
    updates: int = setting(
        1,
        "Updates for each environment step, each of both loops and on minibatches of its own: "
        "the update-to-data ratio.",
        low=1,
        high=MOST_UPDATES,
        group=_WHAT,
    )
    model_steps: int = setting(
        1,
        "Model updates per step of an objective that fits the model first (mle, vep).",
        low=1,
        high=MOST_MODEL_STEPS,
        group=_OUTER,
    )
    random_steps: int | None = _by_learner(
        "Random actions before learning starts.", low=0, high=MOST_STEPS, group=_INNER
    )
    replay_capacity: int | None = setting(
        None,
        "Transitions the replay buffer keeps; all of them by default.",
        low=1,
        high=MOST_STEPS,
        group=_INNER,
    )
    distractors: int = setting(
        0,
        "Numbers without use added to the observation.",
        low=0,
        high=MOST_DISTRACTORS,
        group=_WHAT,
    )
    distractor_kind: Literal["noise", "linear", "controlled"] = setting(
        "noise",
        "What distractors are: fresh standard normal numbers, linear dynamics that such numbers "
        "drive, or linear dynamics that the agent's actions drive too.",
        group=_WHAT,
    )

    hypergradient: str | type | Part | None = setting(
        None,
        "How the inverse Jacobian of eq. (7) is applied, such as cg:damping=1e-5,max_steps=100.",
        by_learner=True,
        part="hypergradient",
        group=_OUTER,
    )
    model: str | type | Part = setting(
        "deterministic", "Prediction of the next state.", part="model", group=_MODEL
    )
    model_network: Literal["separate", "joint"] | None = _by_learner(
        "Networks of next state and reward.", group=_MODEL
    )
    model_output: Literal["state", "change"] = setting(
        "change",
        "What the model's network gives: the next state, or its change, added to the state.",
        group=_MODEL,
    )
    rollout: int = setting(
        0,
        "Steps of the model's rollouts under the current policy, from stored states: the learner "
        "then trains on what they make. With 0 it trains on predictions at the stored actions.",
        low=0,
        high=MOST_ROLLOUT,
        group=_MODEL,
    )
    real_share: float = setting(
        0.05,
        "Share of true transitions in the learner's minibatches, with rollouts.",
        low=0,
        high=1,
        group=_MODEL,
    )
    model_capacity: int | None = setting(
        None,
        "Transitions that the rollouts' buffer keeps; by default those of the last "
        f"{UPDATES_KEPT} updates, but no more than the replay buffer.",
        low=1,
        high=MOST_STEPS,
        group=_MODEL,
    )
    rollout_ends: Literal["learned", "never"] = setting(
        "learned",
        "Where rollouts end: where a network that learns terminations says so, or, for "
        "environments without any, never.",
        group=_MODEL,
    )
    reward: Literal["learned", "known"] = setting(
        "learned", "Rewards the Q-network trains on.", group=_MODEL
    )
    critics: int = setting(
        2, "Q-networks: 2 for double Q-learning, 1 for single.", low=1, high=2, group=_INNER
    )
    inner_optimizer: Literal["auto", "reset", "keep"] | None = _by_learner(
        "Moments of learner_optimizer between inner loops: `reset`, `keep`, or `auto`: reset for "
        "OMD with soft Q-learning, else kept, as the authors' programs do.",
        group=_INNER,
    )
    learner_optimizer: str | type | Part = setting(
        "adam", "Optimiser of the learner's networks.", part="optimizer", group=_INNER
    )
    model_optimizer: str | type | Part = setting(
        "adam", "Optimiser of the model θ.", part="optimizer", group=_OUTER
    )

    evaluate_every: int | None = _by_learner(
        "Environment steps between evaluations.", low=1, high=MOST_STEPS, group=_EVALUATION
    )
    evaluate_episodes: int = setting(
        10, "Episodes of each evaluation.", low=1, high=MOST_STEPS, group=_EVALUATION
    )
    evaluate_max_steps: int = setting(
        10_000,
        "Steps after which an evaluation episode is cut.",
        low=1,
        high=MOST_STEPS,
        group=_EVALUATION,
    )
    precision: Literal["float32", "float64"] = setting("float32", "Arithmetic.", group=_ARITHMETIC)

    def __post_init__(self) -> None:
        for one in SETTINGS.values():
            value = self._checked(one, getattr(self, one.name))
            object.__setattr__(self, one.name, value)
        self._check_precision()

    def _checked(self, one: parts.Setting, value: Any) -> Any:
        if one.name == "env":
            return checked_env(value)
        if one.name == "env_args":
            return _arguments(value)
        if one.name == "seeds":
            return _seeds(value)
        if kind := one.metadata.get("part"):
            return _checked_part(kind, value, optional=one.optional)
        return parts.checked(one.name, one, value)

    def _check_precision(self) -> None:
        """Limits also hold for the numbers as they will be used, rounded to float32."""
        if self.precision == "float64":
            return
        for one in SETTINGS.values():
            value = getattr(self, one.name)
            if isinstance(value, float):
                try:
                    parts.checked(one.name, one, _as_float32(value))
                except (InputError, OverflowError):
                    raise InputError(
                        f"{one.name} is {value!r}, which float32 rounds to a number that can't "
                        "work: give precision 'float64', or another value"
                    ) from None

    @property
    def env_arguments(self) -> dict[str, Any]:
        """What the environment is made with."""
        return dict(self.env_args)

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds, one a lane."""
        assert isinstance(self.seeds, tuple)
        return self.seeds

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: parts as text with all their settings.

        Raises `InputError` for a part whose settings text can't hold.
        """
        values = {name: getattr(self, name) for name in SETTINGS}
        for name, one in SETTINGS.items():
            if one.metadata.get("part") and not isinstance(values[name], str | None):
                values[name] = parts.text_of(values[name], complete=True)
            elif one.type == "widths" and isinstance(values[name], tuple):
                values[name] = list(values[name])
        values["env"] = env_text(self.env)
        values["env_args"] = self.env_arguments
        values["seeds"] = list(self.seed_list)
        return values


SETTINGS = {one.name: one for one in parts.settings_of(Config)}
"""Every setting of a run by name, in the order of `Config`."""


def layers_of(widths: Widths) -> tuple[int, ...]:
    """Units of each hidden layer."""
    return widths if isinstance(widths, tuple) else (widths,) * LAYERS


def defaults(one: parts.Setting) -> str:
    """What a setting's default is, by learner where that matters, for `--help`."""
    if not one.metadata.get("by_learner"):
        return "" if one.default is None or one.default == () else str(one.default)
    found: dict[str, list[str]] = {}
    for name, learner in catalogue.entries("learner").items():
        value = learner.defaults[one.name]
        found.setdefault(str(value), []).append(name)
        special = learner.implicit_defaults.get(one.name, value)
        if special != value:
            found.setdefault(str(special), []).append(f"{name} with omd")
    first, *others = found
    return "; ".join([first, *(f"{' and '.join(found[o])}: {o}" for o in others)])


def read(name: str, text: str) -> Any:
    """A setting's value from the command line's text; `Config` checks and rejects the rest."""
    one = SETTINGS[name]
    if one.metadata.get("part") or name in ("env", "env_args"):
        return text
    if name == "seeds":
        return parts.number(name, text)
    return parts.read(f"{name} of a run", SETTINGS, name, text)


def checked_env(env: Any) -> Any:
    """An id, a class, a factory or an environment object; `InputError` for anything else."""
    if isinstance(env, str):
        if not env.strip():
            raise InputError("env is empty: name an environment, such as CartPole-v1")
        return env
    known = callable(env) or any(callable(getattr(env, n, None)) for n in ("step_env", "step"))
    if env is None or not known:
        raise InputError(
            f"env is {env!r}: give an id, a gymnasium.Env class, a function that makes one, or a "
            "JAX environment object"
        )
    return env


def env_text(env: Any) -> str:
    """An environment as text: its id, or the `package.module:Name` of a class or a factory.

    An object that was made in Python has no such text: it comes as `object of
    package.module:Class`, which can't be made again.
    """
    if isinstance(env, str):
        return env
    name = getattr(env, "__qualname__", None)
    if name is not None:
        return f"{env.__module__}:{name}"
    return f"object of {type(env).__module__}:{type(env).__qualname__}"


def _checked_part(kind: str, value: Any, *, optional: bool) -> Any:
    if value is None and optional:
        return None
    if value is None or isinstance(value, int | float):
        raise InputError(f"{kind} is {value!r}: give a name (`omd list {kind}` shows them)")
    if isinstance(value, str):
        if value == "auto" and kind == "learner":
            return value
        name, settings = parts.split(kind, value)
        # names are checked without JAX; what has settings, or is one's own, only by its class
        if settings or name not in catalogue.entries(kind):
            parts.part_of(kind, value)
        return value
    return parts.part_of(kind, value)


def _arguments(value: Any) -> tuple[tuple[str, Any], ...]:
    """Keyword arguments of the environment, as sorted pairs."""
    if isinstance(value, str):
        given = parts.pairs("env_args", value)
        if empty := [k for k, v in given if not v]:
            raise InputError(f"env_args gives {empty[0]} no value: write {empty[0]}=…")
        value = {k: _literal(v) for k, v in given}
    try:
        found = dict(value)
    except (TypeError, ValueError):
        raise InputError(f"env_args is {value!r}: give a mapping, or key=value,key=value") from None
    for name in found:
        if not isinstance(name, str) or not name.isidentifier():
            raise InputError(f"env_args has a key {name!r}: give names of keyword arguments")
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
    return tuple(sorted(plain.items()))


def _literal(word: str) -> Any:
    if word.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[word.lower()]
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _as_float32(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]


def _seeds(value: Any) -> tuple[int, ...]:
    value = value.tolist() if hasattr(value, "tolist") else value  # NumPy's numbers and arrays
    no_numbers = bool | str | bytes | bytearray | Mapping
    if isinstance(value, no_numbers) or not isinstance(value, int | Iterable):
        raise InputError(f"seeds is {value!r}: give a whole number of seeds, or a tuple of them")
    if isinstance(value, int):
        if value < 1:
            raise InputError(f"seeds is {value}: give at least 1")
        if value > MOST_SEEDS:
            held = min(e.defaults["steps"] for e in catalogue.entries("learner").values())
            raise InputError(
                f"seeds is {value}: give at most {MOST_SEEDS:,}; each is a lane, and replay "
                f"buffers of usual size would take {value * held * 20 / 1e12:,.0f} TB of memory"
            )
        return tuple(range(value))
    seeds = tuple(x.item() if hasattr(x, "item") else x for x in value)
    good = all(isinstance(s, int) and not isinstance(s, bool) and 0 <= s < 2**32 for s in seeds)
    if not seeds or not good:
        raise InputError(f"seeds is {seeds!r}: give whole numbers from 0 to 2**32 - 1")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds is {seeds!r}: give each seed once")
    return seeds


MOST_SEEDS = 1_000_000
"""Of one run: each is a lane."""
