"""Compiled programs, kept by key: compiled when first called, or ahead in threads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from omd.types import PyTree


class Compiled:
    """Programs of one argument each."""

    def __init__(self, jitted: Callable[[Any], Any]) -> None:
        """`jitted` makes the function of a key, wrapped by `jax.jit`."""
        self._jitted = jitted
        self._programs: dict[Hashable, Callable[[PyTree], Any]] = {}

    def __call__(self, key: Hashable, argument: PyTree) -> Any:
        """Run the program of a key."""
        if key not in self._programs:
            self._programs[key] = self._jitted(key)
        return self._programs[key](argument)

    def ahead(self, arguments: Mapping[Any, PyTree]) -> None:
        """Begin to compile the programs of these keys for arguments like these, in threads, in
        this order: the first of them run while the last compile."""

        def compiled(program: Any, argument: PyTree) -> Callable[[PyTree], Any]:
            with jax.enable_x64(wide):  # a thread doesn't share its parent's
                return program.lower(argument).compile()

        wide = bool(jax.config.read("jax_enable_x64"))
        threads = ThreadPoolExecutor(2, "compile")
        for key, argument in arguments.items():
            if key in self._programs:
                continue
            future = threads.submit(compiled, self._jitted(key), argument)
            self._programs[key] = functools.partial(_run, future)
        threads.shutdown(wait=False)


def _run(program: Future[Callable[[PyTree], Any]], argument: PyTree) -> Any:
    return program.result()(argument)
