"""Options for XLA's compiler."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax


def known(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the compiler options that this version of XLA knows; it refuses a program that is
    given others."""
    return {name: value for name, value in options.items() if _is_known(name, value)}


def widest() -> dict[str, Any]:
    """The options for a CPU's widest vectors (docs/performance.md); none on other devices."""
    cpu = jax.default_backend() == "cpu"
    return known({"xla_cpu_prefer_vector_width": 512}) if cpu else {}


@functools.cache
def _is_known(name: str, value: Any) -> bool:
    try:
        jax.jit(lambda x: x, compiler_options={name: value}).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
