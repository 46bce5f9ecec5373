"""The settings that a run uses: complete, and checked against each other and the environment."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from omd import catalogue, parts
from omd.config import SETTINGS, UPDATES_KEPT, Config, Widths, env_text
from omd.errors import InputError
from omd.types import EnvSpec


@dataclasses.dataclass(frozen=True)
class Settings(Config):
    """A configuration without anything left open: parts are instances, no setting is None but
    `replay_capacity` and `model_capacity`. `resolve` makes one. Raises `InputError` where settings
    don't go together."""

    if TYPE_CHECKING:
        from omd.agents.learners.learner import Learner
        from omd.agents.models.model import Model
        from omd.agents.objectives.objective import Objective
        from omd.agents.updates import Optimizer
        from omd.implicit import AbstractMethod

        objective: Objective = parts.setting()
        learner: Learner = parts.setting()
        model: Model = parts.setting()
        hypergradient: AbstractMethod = parts.setting()
        model_optimizer: Optimizer = parts.setting()
        learner_optimizer: Optimizer = parts.setting()
        steps: int = parts.setting()
        learning_rate: float = parts.setting()
        inner_learning_rate: float = parts.setting()
        tau: float = parts.setting()
        temperature: float = parts.setting()
        epsilon: float = parts.setting()
        hidden: Widths = parts.setting()
        model_hidden: Widths = parts.setting()
        random_steps: int = parts.setting()
        evaluate_every: int = parts.setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, one in SETTINGS.items():
            if kind := one.metadata.get("part"):
                object.__setattr__(self, name, parts.part_of(kind, getattr(self, name)))
            elif getattr(self, name) is None and one.metadata.get("by_learner"):
                raise InputError(f"{name} has no value: give one, or resolve the configuration")
        self.objective.check(self)
        self._check_replay()
        self._check_rollouts()

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

    def _check_rollouts(self) -> None:
        if self.rollout == 0:
            for name in ("real_share", "model_capacity", "rollout_ends"):
                value = getattr(self, name)
                if value != SETTINGS[name].default:
                    raise InputError(
                        f"{name} is {value!r}, but rollout is 0 and the model makes no rollouts: "
                        f"give rollout 1 or more, or leave {name} out"
                    )
            return
        if not self.objective.rolls_out:
            raise InputError(
                f"rollout is {self.rollout}, but objective {parts.text_of(self.objective)!r} "
                "trains the learner in a way of its own: leave rollout out, or give an objective "
                "that fits the model first, such as mle"
            )
        if self.reward == "known":
            raise InputError(
                f"rollout is {self.rollout}, but rewards are known only at stored actions: give "
                "reward 'learned'"
            )
        made = self.rollout * self.batch_size
        if made > self.model_slots:
            raise InputError(
                f"rollout is {self.rollout}: from the {self.batch_size} states of a minibatch it "
                f"makes {made} transitions at a time, but the model buffer holds "
                f"{self.model_slots}: lower rollout or batch_size, or raise model_capacity"
            )

    @property
    def model_slots(self) -> int:
        """Transitions that the buffer of the model's rollouts can hold."""
        kept = UPDATES_KEPT * self.rollout * self.batch_size
        return self.model_capacity or min(kept, self.capacity)

    @property
    def label(self) -> str:
        """What titles and tables call the run: the objective, or the learner alone."""
        return parts.label_of(self.objective if self.objective.uses_model else self.learner)

    @property
    def capacity(self) -> int:
        """Transitions the replay buffer can hold."""
        return self.replay_capacity or self.steps

    @property
    def resets_moments(self) -> bool:
        """Whether each inner loop begins with fresh moments of the learner's optimiser."""
        automatic = self.objective.implicit and self.learner.resets_moments
        return automatic if self.inner_optimizer == "auto" else self.inner_optimizer == "reset"


def resolve(config: Config, spec: EnvSpec) -> Settings:
    """The settings that a run of this configuration in this environment uses.

    Raises `InputError` where the learner can't take the environment's actions, where a part can't
    be made, and where settings don't go together.
    """
    learner = _learner(config, spec)
    objective: Any = parts.part_of("objective", config.objective)
    fitting = next((e for e in _fitting(spec)), None)
    filled: dict[str, Any] = dict(fitting.defaults) if fitting else {}
    filled |= learner.defaults
    if objective.implicit:
        filled |= learner.implicit_defaults
    values = {name: getattr(config, name) for name in SETTINGS}
    _check_hypergradient(values["hypergradient"], objective, filled.get("hypergradient"))
    values |= {n: filled[n] for n, v in values.items() if v is None and n in filled}
    return Settings(**{**values, "learner": learner, "objective": objective})


def _check_hypergradient(asked: Any, objective: Any, default: Any) -> None:
    """An objective that doesn't differentiate through the inner problem takes the default only."""
    if asked is None or objective.implicit:
        return
    method, usual = (parts.part_of("hypergradient", one) for one in (asked, default))
    if parts.text_of(method) != parts.text_of(usual):
        raise InputError(
            f"hypergradient is {parts.text_of(method)!r}, but objective "
            f"{parts.text_of(objective)!r} has none: leave it out or give objective 'omd'"
        )


def _learner(config: Config, spec: EnvSpec) -> Any:
    if config.learner == "auto":
        for entry in _fitting(spec):
            return parts.part_of("learner", entry.name)
        raise InputError(f"no learner takes the actions of environment {spec.id!r}: give your own")
    learner: Any = parts.part_of("learner", config.learner)
    if not learner.takes(spec):
        actions = "continuous" if spec.num_actions is None else "discrete"
        fitting = " or ".join(repr(entry.name) for entry in _fitting(spec))
        raise InputError(
            f"learner is {parts.text_of(learner)!r}, which can't take the {actions} actions of "
            f"environment {env_text(config.env)!r}: give learner {fitting} or choose another "
            "environment"
        )
    return learner


def _fitting(spec: EnvSpec) -> list[catalogue.Entry]:
    """The shipped learners that take the environment's actions."""
    entries = catalogue.entries("learner").values()
    return [e for e in entries if parts.named("learner", e.where).takes(spec)]
