"""A process set up for lanes on all cores. Imports little, so that a name that stands for no
environment is told before the rest of the library is there."""

from __future__ import annotations

from typing import cast

from omd.config import Config, Widths, layers_of
from omd.envs.lookup import resolve, resolve_early
from omd.training import devices


def use_cores(config: Config | None = None) -> None:
    """Set this process up for lanes on all cores: a CPU device a core, threads that don't wait for
    each other. Call it before JAX is first used; a library call never does it by itself.

    With a configuration, as its lanes and layers need it: raises `InputError` where its
    environment is unknown or can't be made. The command line calls it before it trains.
    """
    if config is None:
        devices.prepare(10**6)
        return
    lanes, hidden = len(config.seed_list), max(layers_of(cast(Widths, config.hidden or 0)))
    source = resolve_early(config.env)
    if source is not None and source.on_host:  # making it doesn't start JAX
        from omd.runs import run as runs

        lanes, hidden = 1, max(layers_of(runs.resolved(config).hidden))
    devices.prepare(lanes, hidden)
    resolve(config.env)
