"""How lanes are laid over the devices there are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import jax
from jax.sharding import NamedSharding, PartitionSpec

from omd.types import PyTree

WIDE = 128
"""Units a layer from which XLA's threads gain more on a product than their hand-overs cost."""


def prepare(lanes: int, hidden: int | None = None) -> None:
    """Ask for one CPU device a core, as far as there are lanes for them.

    Takes effect only before JAX is first used in this process. Each device runs its lanes on one
    thread, except where layers of `hidden` units are wide and there are fewer lanes than cores.
    """
    # OpenBLAS's threads wait for each other on small matrices (docs/performance.md)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    spare = lanes < _cores()
    if not (spare and (hidden or 0) >= WIDE):
        os.environ.setdefault("NPROC", "1")
    if "XLA_FLAGS" in os.environ and "device_count" in os.environ["XLA_FLAGS"]:
        return
    # a RuntimeError says that JAX is in use already: lanes share the devices that were set up
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", max(1, min(lanes, _cores())))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count(lanes: int, *, on_host: bool) -> int:
    """Devices to use; a host environment steps all its lanes in one call, hence on one device."""
    return 1 if on_host else min(lanes, len(jax.devices()))


def over_lanes(on_device: Callable[[PyTree], PyTree], devices: int) -> Callable[[PyTree], PyTree]:
    """A function of a pytree with leading lane axes over all devices, from one of those lanes that
    a device has. On a CPU `on_device` had better take them one by one (docs/performance.md)."""
    if devices == 1:
        return on_device
    lane = PartitionSpec("lane")
    return jax.shard_map(
        on_device, mesh=_mesh(devices), in_specs=lane, out_specs=lane, check_vma=False
    )


def place(tree: PyTree, devices: int) -> PyTree:
    """Put a pytree with leading lane axes where `over_lanes` wants it."""
    return jax.device_put(tree, sharding(devices) or jax.devices()[0])


def sharding(devices: int) -> NamedSharding | None:
    """Where leading lane axes lie; None on one device. Results need it given: XLA replicates an
    array without elements, and a program compiled ahead of its use takes no other sharding."""
    return NamedSharding(_mesh(devices), PartitionSpec("lane")) if devices > 1 else None


def _mesh(devices: int) -> jax.sharding.Mesh:
    return jax.make_mesh(
        (devices,), ("lane",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:devices]
    )
