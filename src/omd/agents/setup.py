"""What a run tells its parts before it starts, and the base class of the agent's parts."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, NamedTuple, TypeVar, dataclass_transform

from omd import parts
from omd.config import Widths
from omd.settings import Settings
from omd.types import EnvSpec

Part = TypeVar("Part", bound="AgentPart")


class Setup(NamedTuple):
    """What all parts of an agent may know of the run that they work in."""

    spec: EnvSpec
    """The environment."""
    settings: Settings
    """Every setting of the run."""
    dtype: Any
    """Of parameters and observations: float32 or float64."""
    padded: Widths
    """Units to which the model's hidden layers are padded, `settings.model_hidden` or more."""


@dataclass_transform(frozen_default=True, field_specifiers=(parts.setting, dataclasses.field))
class AgentPart:
    """Base of objectives, learners and models: a frozen dataclass whose fields are its settings.

    Subclasses are made dataclasses by themselves and checked when an instance is made. A part is
    a plain value until the run binds it to its setup; the methods that train may then read
    `self.setup`.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        dataclasses.dataclass(frozen=True)(cls)

    def __post_init__(self) -> None:
        parts.check(self)

    def bound(self: Part, setup: Setup) -> Part:
        """A copy that knows its setup."""
        part = copy.copy(self)
        object.__setattr__(part, "_setup", setup)
        return part

    @property
    def setup(self) -> Setup:
        """What this part knows of its run; RuntimeError where it hasn't been bound to one."""
        try:
            return self.__dict__["_setup"]
        except KeyError:
            raise RuntimeError(
                f"{parts.text_of(self)} isn't part of a run yet: use agents.build"
            ) from None

    @property
    def spec(self) -> EnvSpec:
        """The environment."""
        return self.setup.spec

    @property
    def settings(self) -> Settings:
        """Every setting of the run."""
        return self.setup.settings

    @property
    def dtype(self) -> Any:
        """Of parameters and observations."""
        return self.setup.dtype
