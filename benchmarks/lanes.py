"""Lane-steps a second from 1 to 64 lanes: OMD on CartPole, one update a step, no evaluations.

    python benchmarks/lanes.py                 # the devices there are: all cores, or a GPU
    taskset -c 0,1 python benchmarks/lanes.py  # two cores

Each number of lanes runs in a process of its own, for JAX's devices can't change in one, and its
program runs once before it is timed. The last column is the rate relative to that of half as many
lanes: at 1.00 and above, lanes scale.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys

from cartpole import lane_steps_per_second
from side_by_side import last_line

COUNTS = (1, 2, 4, 8, 16, 32, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lanes", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--lane-steps", type=int, default=4000, help="of each timed chunk")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        chunk = max(50, options.lane_steps // options.one)
        print(json.dumps(lane_steps_per_second(options.one, chunk)))
        return
    from omd.training.provenance import provenance

    made = provenance()
    print(f"{made['device']}, {made['processor']}")
    print(f"{'lanes':>6} {'lane-steps/s':>13} {'spread':>15} {'to half':>8}")
    last: dict[int, float] = {}
    for lanes in options.lanes:
        command = [sys.executable, __file__, "--one", str(lanes)]
        command += ["--lane-steps", str(options.lane_steps)]
        found = json.loads(last_line(command))
        last[lanes] = statistics.median(found)
        half = last.get(lanes // 2)
        ratio = f"{last[lanes] / half:.2f}" if half else ""
        print(
            f"{lanes:>6} {last[lanes]:>13,.0f} {min(found):>7,.0f}–{max(found):<7,.0f} {ratio:>8}"
        )


if __name__ == "__main__":
    main()
