"""The settings of a run, checked at the door. Imports no JAX: the command line reads its options
from these fields."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from omd.errors import InputError
from omd.settings import BY_LEARNER, LEARNERS, checked, closest, default_of, setting

OBJECTIVES = ("omd", "mle", "vep", "none")
HYPERGRADIENTS = (
    "identity",
    "neumann",
    "cg",
    "normal-cg",
    "gmres",
    "nystrom",
    "gauss-newton",
    "dense",
    "pseudo-inverse",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """One run: an environment, an objective for the model, and everything that shapes both loops.

    Defaults are appendix D's for soft Q-learning and appendix F's for SAC, and the authors'
    program's where the paper leaves a value open; what is done otherwise, and why, stands in
    docs/cartpole.md and docs/continuous.md. Settings whose default depends on the learner are None
    until `resolved`. Raises `InputError` with one sentence for a value that can't work.
    """

    env: str = setting("CartPole-v1", "Environment id; `omd list` shows them.")
    objective: str = setting(
        "omd",
        "What the model is trained for; `none` has no model and trains on true transitions.",
        choices=OBJECTIVES,
    )
    learner: str = setting(
        "auto",
        "The inner learner; `auto` is soft-q for discrete actions, sac for continuous ones.",
        choices=("auto", *LEARNERS),
    )
    seeds: int | tuple[int, ...] = setting(
        1, "Number of seeds (0, 1, …), or in Python a tuple of seeds, which it becomes in any case."
    )
    steps: int = setting(BY_LEARNER["steps"], "Environment steps of each lane.", low=1)

    learning_rate: float = setting(
        BY_LEARNER["learning_rate"],
        "Adam's rate for the model θ (outer loop).",
        low=0,
        open_low=True,
        lane=True,
    )
    inner_learning_rate: float = setting(
        BY_LEARNER["inner_learning_rate"],
        "Adam's rate for the learner's networks, w among them (inner loop).",
        low=0,
        open_low=True,
        lane=True,
    )
    tau: float = setting(
        BY_LEARNER["tau"],
        "Step of the target network towards w.",
        low=0,
        high=1,
        open_low=True,
        lane=True,
    )
    temperature: float = setting(
        BY_LEARNER["temperature"],
        "Temperature α of softmax and log-sum-exp; SAC learns its own and starts with this one.",
        low=0,
        open_low=True,
        lane=True,
    )
    epsilon: float = setting(
        BY_LEARNER["epsilon"],
        "Probability of a random action while training.",
        low=0,
        high=1,
        lane=True,
    )
    discount: float = setting(0.99, "Discount factor γ, below 1.", low=0, high=1, lane=True)

    hidden: int = setting(
        BY_LEARNER["hidden"], "Units in each of the Q-network's two hidden layers.", low=1
    )
    model_hidden: int = setting(
        BY_LEARNER["model_hidden"],
        "Units in each of the model's two hidden layers.",
        low=1,
        lane=True,
    )
    batch_size: int = setting(256, "Transitions in a minibatch.", low=1)
    inner_steps: int = setting(1, "K, Q-network updates per model update.", low=1)
    model_steps: int = setting(1, "Model updates per step of MLE and VEP.", low=1)
    random_steps: int = setting(
        BY_LEARNER["random_steps"], "Random actions before learning starts.", low=0
    )
    replay_capacity: int | None = setting(
        None, "Transitions the replay buffer keeps; all of them by default.", low=1
    )
    distractors: int = setting(0, "Standard normal numbers added to the observation.", low=0)

    hypergradient: str = setting(
        BY_LEARNER["hypergradient"],
        "How the inverse Jacobian of eq. (7) is applied; settings follow a colon: "
        "cg:damping=1e-5,max_steps=100.",
    )
    model: str = setting(
        "deterministic", "Prediction of the next state.", choices=("deterministic", "gaussian")
    )
    model_network: str = setting(
        BY_LEARNER["model_network"],
        "Networks of next state and reward.",
        choices=("separate", "joint"),
    )
    model_output: str = setting(
        "change",
        "What the model's network gives: the next state, or its change, added to the state.",
        choices=("state", "change"),
    )
    reward: str = setting(
        "learned", "Rewards the Q-network trains on.", choices=("learned", "known")
    )
    operator: str = setting("soft", "Bellman optimality operator.", choices=("soft", "hard"))
    critics: int = setting(2, "Q-networks: 2 for double Q-learning, 1 for single.", low=1, high=2)
    start: str = setting("warm", "Where the inner loop starts from.", choices=("warm", "cold"))
    inner_optimizer: str = setting(
        BY_LEARNER["inner_optimizer"],
        "Adam's moments between inner loops: `reset`, `keep`, or `auto`: reset for OMD with soft "
        "Q-learning, else kept, as the authors' programs do.",
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

    evaluate_every: int = setting(
        BY_LEARNER["evaluate_every"], "Environment steps between evaluations.", low=1
    )
    evaluate_episodes: int = setting(10, "Episodes of each evaluation.", low=1)
    evaluate_max_steps: int = setting(
        10_000, "Steps after which an evaluation episode is cut.", low=1
    )
    precision: str = setting("float32", "Arithmetic.", choices=("float32", "float64"))

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked(field, getattr(self, field.name)))
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
        if self.learner == "sac" and self.operator == "hard":
            raise InputError(
                "operator is 'hard', which goes with learner 'soft-q' only: leave it out"
            )
        if self.is_resolved:
            self._check_replay()

    def _check_replay(self) -> None:
        if self.random_steps >= self.steps:
            raise InputError(
                f"steps is {self.steps}, but learning starts only after {self.random_steps} random "
                "steps: raise steps, or lower random_steps"
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
        if self.hypergradient is None:
            return
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
    def is_resolved(self) -> bool:
        """Whether the learner is known, and with it all settings."""
        fields = dataclasses.fields(self)
        return self.learner != "auto" and all(
            getattr(self, f.name) is not None for f in fields if f.metadata["by_learner"]
        )

    def resolved(self, continuous: bool) -> Config:
        """The configuration with its learner named and that learner's defaults filled in.

        `continuous` tells the environment's actions. Raises `InputError` where the learner can't
        take them, and where settings don't go together.
        """
        fitting = "sac" if continuous else "soft-q"
        if self.learner not in ("auto", fitting):
            actions = "continuous" if continuous else "discrete"
            raise InputError(
                f"learner is {self.learner!r}, which can't take the {actions} actions of "
                f"environment {self.env!r}: give learner {fitting!r} or choose another environment"
            )
        defaults = {
            field.name: default_of(field, fitting, self.objective)
            for field in dataclasses.fields(self)
            if field.metadata["by_learner"] and getattr(self, field.name) is None
        }
        return dataclasses.replace(self, learner=fitting, **defaults)

    @property
    def label(self) -> str:
        """What titles and tables call the run."""
        plain = {"soft-q": "Soft Q-learning", "sac": "SAC"}.get(self.learner, "No model")
        return plain if self.objective == "none" else self.objective.upper()

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
    def of_stored(cls, values: Mapping[str, Any]) -> Config:
        """Resolved settings from a file; what it doesn't name was not yet a choice then."""
        config = cls.from_dict({"learner": "soft-q", "model_output": "state", **values})
        return config.resolved(continuous=config.learner == "sac")

    @classmethod
    def of_run(cls, folder: pathlib.Path) -> Config:
        """The settings that a run folder holds; raises `InputError` if it is none."""
        path = folder / "config.json"
        if not path.is_file():
            raise InputError(f"{folder} is no run: it has no config.json")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls.of_stored(values)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path} can't be read: {error}") from error
