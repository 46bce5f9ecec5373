"""The engine for a cluster: groups as Ray tasks, on nodes that share the sweep's folder."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from typing import Any

from omd.errors import InputError, install
from omd.sweeps.engines.local import ATTEMPTS, POLL_SECONDS
from omd.sweeps.outcome import Outcome
from omd.sweeps.plan import Group, Machine
from omd.sweeps.screen import Screen
from omd.sweeps.store import Sweep

CPU_VARIABLES = {"NPROC": "1"}


def check() -> None:
    """Raises `InputError` where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise InputError(f"engine is 'ray', which is not installed: {install('ray')}")


def run(
    sweep: Sweep,
    machine: Machine,
    address: str | None,
    stopped: Callable[[], bool],
    screen: Screen,
) -> None:
    """Finish all groups on the cluster at `address`, or on one that this process starts.

    Each task asks for a core or an accelerator, and for the memory of its lanes. Ray starts it
    again where its worker dies; it then goes on from its checkpoint.
    """
    import ray
    import ray.exceptions

    own = not ray.is_initialized()
    if own:
        _connect(ray, address, machine)
    try:
        remote = ray.remote(max_retries=ATTEMPTS - 1)(_task)
        waiting: dict[Any, Group] = {}
        for group in sweep.groups:
            if not sweep.done(group):
                waiting[_submit(remote, sweep, machine, group)] = group
        while waiting and not stopped():
            ready, _ = ray.wait(list(waiting), timeout=POLL_SECONDS)
            for one in ready:
                group = waiting.pop(one)
                try:
                    outcome: Outcome = ray.get(one)
                except ray.exceptions.RayError as error:
                    words = " ".join(str(error).split())[:200]
                    sweep.fail(group, f"its worker died, {ATTEMPTS} times in a row: {words}")
                    continue
                if outcome.settle(sweep, group):  # another process has it: look again
                    time.sleep(POLL_SECONDS)
                    waiting[_submit(remote, sweep, machine, group)] = group
            screen.update()
        for one in waiting:
            ray.cancel(one)
    finally:
        if own:
            ray.shutdown()


def _connect(ray: Any, address: str | None, machine: Machine) -> None:
    variables = CPU_VARIABLES if machine.platform == "cpu" else {}
    paths = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    if paths:
        variables = {**variables, "PYTHONPATH": os.pathsep.join(paths)}
    options: dict[str, Any] = {"runtime_env": {"env_vars": variables}, "log_to_driver": False}
    if address is None:
        options |= {"num_cpus": machine.devices, "include_dashboard": False}
        if machine.platform != "cpu":
            options |= {"num_gpus": machine.devices}
    try:
        ray.init(address=address, configure_logging=True, logging_level="warning", **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        words = " ".join(str(error).split())[:200]
        raise InputError(
            f"no Ray cluster at {address!r} ({words}): start one with `ray start --head`, or leave "
            "the address out"
        ) from error


def _submit(remote: Any, sweep: Sweep, machine: Machine, group: Group) -> Any:
    resources: dict[str, Any] = {"num_cpus": 1}
    if machine.platform == "cpu":
        resources["memory"] = int(3 * group.bytes * len(group.lanes))
    else:
        resources["num_gpus"] = 1
    return remote.options(**resources, name=f"{sweep.name}-{group.number}").remote(
        str(sweep.path.resolve()), group.number
    )


def _task(path: str, number: int) -> Outcome:
    from omd.sweeps import worker

    return worker.run(path, number)
