"""The methods by name, for command lines and configuration files."""

from __future__ import annotations

import ast
import dataclasses
from typing import Any

from omd.errors import InputError
from omd.implicit import validation
from omd.implicit.direct import Dense, PseudoInverse
from omd.implicit.gauss_newton import GaussNewton
from omd.implicit.iterative import CG, GMRES, NormalCG
from omd.implicit.methods import AbstractMethod, Identity, Neumann, Nystrom

METHODS: dict[str, type[AbstractMethod]] = {
    "identity": Identity,
    "neumann": Neumann,
    "cg": CG,
    "normal-cg": NormalCG,
    "gmres": GMRES,
    "nystrom": Nystrom,
    "dense": Dense,
    "pseudo-inverse": PseudoInverse,
    "gauss-newton": GaussNewton,
}


def get(name: str, **settings: Any) -> AbstractMethod:
    """The method called `name`, such as get("cg", damping=1e-3) or get("cg:damping=1e-3,rtol=0.1").

    Raises `InputError` for an unknown name or setting (with the nearest known one) or a bad value.
    """
    name, _, text = name.partition(":")
    method = METHODS[validation.one_of("hypergradient", name, METHODS)]
    settings = {**_parse(name, text), **settings}
    known = [field.name for field in dataclasses.fields(method)]
    for setting in settings:
        validation.one_of(f"setting of {name}", setting, known)
    return method(**settings)


def _parse(name: str, text: str) -> dict[str, Any]:
    settings = {}
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"settings of {name} are written key=value, not {item!r}.")
        try:
            settings[key.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            raise InputError(
                f"setting {key.strip()} of {name} must be a number, not {value!r}."
            ) from None
    return settings
