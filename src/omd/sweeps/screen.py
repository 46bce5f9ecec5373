"""Progress of a sweep: a bar on a terminal, a line now and then elsewhere; and its plan."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import rich.console
import rich.progress
import rich.table
from rich.markup import escape

from omd.parts import widths_text
from omd.sweeps.plan import Group, Machine
from omd.sweeps.store import Sweep

LINE_SECONDS = 30.0
WINDOW = 300.0
"""Seconds over which the rate is taken."""


class Meter:
    """How much of a sweep is done, at what rate, and how long the rest takes at that rate."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self._weights = [group.weight(sweep.lanes) for group in sweep.groups]
        self._done: set[int] = set()
        self._history: deque[tuple[float, float, int]] = deque()

    def look(self) -> dict[str, Any]:
        """Fraction of the work, groups and lane-steps done, lane-steps/s and seconds left."""
        work, steps = 0.0, 0
        for group, weight in zip(self.sweep.groups, self._weights, strict=True):
            length = self.sweep.lanes[group.lanes[0]].steps
            if group.number in self._done or self.sweep.done(group):
                self._done.add(group.number)
                step = length
            else:
                step = self.sweep.step(group)
            work += weight * step / length
            steps += step * len(group.lanes)
        now = time.monotonic()
        self._history.append((now, work, steps))
        while now - self._history[0][0] > WINDOW:
            self._history.popleft()
        begin, first_work, first_steps = self._history[0]
        seconds = max(now - begin, 1e-9)
        pace = (work - first_work) / seconds
        total = sum(self._weights)
        return {
            "fraction": work / total,
            "groups": len(self._done),
            "rate": (steps - first_steps) / seconds,
            "left": (total - work) / pace if pace > 0 else None,
        }


class Screen(NamedTuple):
    """What an engine tells whoever waits for a sweep."""

    update: Callable[[], None]
    """To call every second or so."""
    say: Callable[[str], None]
    """Something happened that isn't the end of it."""


@contextlib.contextmanager
def display(sweep: Sweep, *, shown: bool) -> Iterator[Screen]:
    """Progress on standard error, or nothing unless `shown`."""
    console = rich.console.Console(stderr=True)
    if not shown:
        yield Screen(lambda: None, lambda text: None)
        return

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    meter, reported = Meter(sweep), time.monotonic()
    if console.is_terminal:
        columns = (
            rich.progress.TextColumn("[bold]{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TaskProgressColumn(),
            rich.progress.TextColumn("{task.fields[figures]}"),
        )
        with rich.progress.Progress(*columns, console=console) as bar:
            task = bar.add_task(escape(sweep.name), total=1.0, figures="starting")

            def update() -> None:
                seen = meter.look()
                bar.update(task, completed=seen["fraction"], figures=describe(sweep, seen))

            yield Screen(update, say)
            update()
    else:

        def line() -> None:
            nonlocal reported
            seen = meter.look()
            if time.monotonic() - reported > LINE_SECONDS:
                reported = time.monotonic()
                text = f"{seen['fraction']:.1%} of {sweep.name}  {describe(sweep, seen)}"
                say(text)

        yield Screen(line, say)


def describe(sweep: Sweep, seen: dict[str, Any]) -> str:
    parts = [f"{seen['groups']} of {len(sweep.groups)} groups"]
    if seen["rate"] > 0:
        parts.append(f"{seen['rate']:,.0f} lane-steps/s")
    if seen["left"] is not None:
        parts.append(f"{duration(seen['left'])} left" if seen["left"] else "done")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Such as 2:05:10, hours first."""
    return str(datetime.timedelta(seconds=round(seconds)))


def show_plan(
    name: str,
    lanes: Sequence[Any],
    groups: Sequence[Group],
    seconds: Sequence[float] | None,
    machine: Machine,
) -> None:
    """The table of `omd sweep --dry-run`: a row for each shape and group size."""
    table = rich.table.Table(title=escape(f"{name}: {len(lanes)} lanes in {len(groups)} groups"))
    for column, side in (
        ("groups", "right"),
        ("lanes each", "right"),
        ("what", "left"),
        ("MFLOP/step", "right"),
        ("MB/lane", "right"),
        ("FLOP", "right"),
        ("time of a group", "right"),
    ):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    rows: dict[tuple[Any, ...], list[int]] = {}
    for i, group in enumerate(groups):
        first = lanes[group.lanes[0]]
        what = f"{first.objective}, width ≤ {widths_text(group.padded)}"
        what += f", {first.distractors} distractors" if first.distractors else ""
        what += f", K {first.inner_steps}" if first.inner_steps != 1 else ""
        what += f", {first.hypergradient}" if first.hypergradient != "identity" else ""
        rows.setdefault((what, len(group.lanes), group.flops, group.bytes), []).append(i)
    times = [
        (seconds[i] if seconds else 0.0) * len(g.lanes) * lanes[g.lanes[0]].steps
        for i, g in enumerate(groups)
    ]
    total = 0.0
    for (what, size, flops, size_bytes), members in rows.items():
        steps = lanes[groups[members[0]].lanes[0]].steps
        work = flops * size * steps * len(members)
        total += work
        table.add_row(
            str(len(members)),
            str(size),
            escape(what),
            f"{flops / 1e6:.2f}",
            f"{size_bytes / 1e6:.1f}",
            f"{work:.3g}",
            duration(times[members[0]]) if seconds else "",
        )
    console = rich.console.Console()
    if not console.is_terminal:
        console = rich.console.Console(width=140)
    console.print(table)
    memory = max(g.bytes * len(g.lanes) for g in groups) / 1e9
    text = f"{total:.3g} FLOP in all; up to {memory:.2f} GB a group on {machine.devices} "
    text += f"{machine.platform} workers with {machine.memory / 1e9:.1f} GB each"
    if seconds:
        text += f"; about {duration(sum(times) / machine.devices)} "
        text += "from a timing of the cheapest and the dearest shape"
    console.print(text, highlight=False, soft_wrap=True)
