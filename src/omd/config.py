"""The settings of a run, checked at the door. Imports no JAX: the command line reads its options
from these fields."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from omd.errors import InputError

OBJECTIVES = ("omd", "mle", "vep")
HYPERGRADIENTS = (
    "identity",
    "neumann",
    "cg",
    "normal-cg",
    "gmres",
    "nystrom",
    "dense",
    "pseudo-inverse",
)


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    lane: bool = False,
) -> Any:
    """A field with the text and the bounds that the command line and the check share.

    `lane` marks settings that may differ between the lanes of one compiled program.
    """
    metadata = dict(help=help, choices=choices, low=low, high=high, open_low=open_low, lane=lane)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """One run: an environment, an objective for the model, and everything that shapes both loops.

    Defaults are appendix D's, with the learning rates and τ that the authors' program defaults to.
    Raises `InputError` with one sentence for a value that can't work.
    """

    env: str = setting("CartPole-v1", "Environment id; `omd list` shows them.")
    objective: str = setting("omd", "What the model is trained for.", choices=OBJECTIVES)
    seeds: int | tuple[int, ...] = setting(
        1, "Number of seeds (0, 1, …), or in Python a tuple of seeds, which it becomes in any case."
    )
    steps: int = setting(200_000, "Environment steps of each lane.", low=1)

    learning_rate: float = setting(
        1e-3, "Adam's rate for the model θ (outer loop).", low=0, open_low=True, lane=True
    )
    inner_learning_rate: float = setting(
        3e-4, "Adam's rate for the Q-network w (inner loop).", low=0, open_low=True, lane=True
    )
    tau: float = setting(
        0.01, "Step of the target network towards w.", low=0, high=1, open_low=True, lane=True
    )
    temperature: float = setting(
        0.01, "Temperature α of softmax and log-sum-exp.", low=0, open_low=True, lane=True
    )
    epsilon: float = setting(
        0.1, "Probability of a random action while training.", low=0, high=1, lane=True
    )
    discount: float = setting(0.99, "Discount factor γ, below 1.", low=0, high=1, lane=True)

    hidden: int = setting(32, "Units in each of the Q-network's two hidden layers.", low=1)
    model_hidden: int = setting(
        32, "Units in each of the model's two hidden layers.", low=1, lane=True
    )
    batch_size: int = setting(256, "Transitions in a minibatch.", low=1)
    inner_steps: int = setting(1, "K, Q-network updates per model update.", low=1)
    model_steps: int = setting(1, "Model updates per step of MLE and VEP.", low=1)
    random_steps: int = setting(1000, "Random actions before learning starts.", low=0)
    replay_capacity: int | None = setting(
        None, "Transitions the replay buffer keeps; all of them by default.", low=1
    )
    distractors: int = setting(0, "Standard normal numbers added to the observation.", low=0)

    hypergradient: str = setting(
        "identity",
        "How the inverse Jacobian of eq. (7) is applied; settings follow a colon: "
        "cg:damping=1e-5,max_steps=100.",
    )
    model: str = setting(
        "deterministic", "Prediction of the next state.", choices=("deterministic", "gaussian")
    )
    reward: str = setting(
        "learned", "Rewards the Q-network trains on.", choices=("learned", "known")
    )
    operator: str = setting("soft", "Bellman optimality operator.", choices=("soft", "hard"))
    critics: int = setting(2, "Q-networks: 2 for double Q-learning, 1 for single.", low=1, high=2)
    start: str = setting("warm", "Where the inner loop starts from.", choices=("warm", "cold"))
    inner_optimizer: str = setting(
        "auto",
        "Adam's moments between inner loops: `reset`, `keep`, or `auto`: reset for OMD, kept for "
        "MLE and VEP, as the authors' program does.",
        choices=("auto", "reset", "keep"),
    )
    constraint_target: str = setting(
        "last",
        "Target network in the constraint and in eq. (11): `last`, the one of the last inner step, "
        "or `moved`, the one after it moved.",
        choices=("last", "moved"),
    )
    outer_batch: str = setting(
        "same",
        "Minibatch of OMD's outer loss: the inner one, or a fresh one.",
        choices=("same", "fresh"),
    )
    vep_values: int = setting(5, "Random value networks of VEP, eq. (14).", low=1)

    evaluate_every: int = setting(1000, "Environment steps between evaluations.", low=1)
    evaluate_episodes: int = setting(10, "Episodes of each evaluation.", low=1)
    evaluate_max_steps: int = setting(
        10_000, "Steps after which an evaluation episode is cut.", low=1
    )
    precision: str = setting("float32", "Arithmetic.", choices=("float32", "float64"))

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "seeds":
                object.__setattr__(self, "seeds", _seeds(value))
            elif isinstance(field.default, str):
                _check_text(field, value)
            elif value is not None or field.default is not None:
                object.__setattr__(self, field.name, _number(field, value))
        if self.discount >= 1:
            raise InputError("discount is 1: give a value below 1")
        self._check_hypergradient()
        if self.objective == "vep" and self.model == "gaussian":
            raise InputError(
                "objective 'vep' compares values at one predicted state: give model 'deterministic'"
            )
        if self.objective != "omd" and self.start == "cold":
            raise InputError(
                f"start is 'cold', but objective {self.objective!r} keeps its "
                "Q-network: give start 'warm' or objective 'omd'"
            )
        held = min(self.random_steps, self.capacity)
        if self.batch_size > max(held, 1):
            raise InputError(
                f"batch_size is {self.batch_size}, but the replay buffer holds only {held} "
                "transitions when learning starts: raise random_steps"
                + (" and replay_capacity" if self.capacity < self.batch_size else "")
                + ", or lower batch_size"
            )

    def _check_hypergradient(self) -> None:
        name, _, settings = self.hypergradient.partition(":")
        closest("hypergradient", name, HYPERGRADIENTS)
        if self.objective != "omd" and self.hypergradient != "identity":
            raise InputError(
                f"hypergradient is {self.hypergradient!r}, but objective "
                f"{self.objective!r} has none: leave it out or give objective 'omd'"
            )
        if settings:
            from omd import implicit

            try:
                implicit.get(self.hypergradient)
            except (TypeError, ValueError) as error:
                raise InputError(str(error)) from error

    @property
    def capacity(self) -> int:
        """Transitions the replay buffer can hold."""
        return self.replay_capacity or self.steps

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds, one a lane."""
        assert isinstance(self.seeds, tuple)
        return self.seeds

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = dataclasses.asdict(self)
        values["seeds"] = list(self.seed_list)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """The counterpart of `to_dict`; raises `InputError` for names that are no settings."""
        known = {field.name for field in dataclasses.fields(cls)}
        for name in values:
            closest("setting", name, known)
        return cls(**values)

    @classmethod
    def of_run(cls, folder: pathlib.Path) -> Config:
        """The settings that a run folder holds; raises `InputError` if it is none."""
        path = folder / "config.json"
        if not path.is_file():
            raise InputError(f"{folder} is no run: it has no config.json")
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path} can't be read: {error}") from error


def closest(what: str, name: str, known: Iterable[str]) -> str:
    """`name` if it is known, else `InputError` with the nearest names."""
    known = sorted(known)
    if name in known:
        return name
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4) or known
    raise InputError(f"unknown {what} {name!r}: did you mean {' or '.join(near)}?")


def _check_text(field: dataclasses.Field, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise InputError(f"{field.name} is {value!r}: give a name")
    if choices := field.metadata["choices"]:
        closest(field.name, value, choices)


def _number(field: dataclasses.Field, value: Any) -> float | int:
    """The value in the field's type and within its bounds."""
    whole = not isinstance(field.default, float)
    bounds = field.metadata
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{field.name} is {value!r}: give a number") from None
    if not math.isfinite(number):
        raise InputError(f"{field.name} is {value!r}: give a finite number")
    if whole and number != int(number):
        raise InputError(f"{field.name} is {value!r}: give a whole number")
    if number < bounds["low"] or (bounds["open_low"] and number <= bounds["low"]):
        than = "above" if bounds["open_low"] else "of at least"
        raise InputError(f"{field.name} is {value!r}: give a number {than} {bounds['low']:g}")
    if number > bounds["high"]:
        raise InputError(f"{field.name} is {value!r}: give a number of at most {bounds['high']:g}")
    return int(number) if whole else number


def _seeds(value: Any) -> tuple[int, ...]:
    if isinstance(value, bool) or not isinstance(value, int | Iterable) or isinstance(value, str):
        raise InputError(f"seeds is {value!r}: give a number of seeds, or a tuple of them")
    if isinstance(value, int):
        if value < 1:
            raise InputError(f"seeds is {value}: give at least 1")
        return tuple(range(value))
    seeds = tuple(value)
    if not seeds or any(not isinstance(s, int) or not 0 <= s < 2**32 for s in seeds):
        raise InputError(f"seeds is {seeds!r}: give whole numbers from 0 to 2**32 - 1")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds is {seeds!r}: give each seed once")
    return seeds
