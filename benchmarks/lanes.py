"""Lane-steps a second from 1 to 64 lanes: OMD on CartPole, one update a step, no evaluations.

    python benchmarks/lanes.py                 # the devices there are: all cores, or a GPU
    taskset -c 0,1 python benchmarks/lanes.py  # two cores

Each number of lanes has a process of its own, for JAX's devices can't change in one; compile time
is apart. The processes take turns, chunk by chunk, and the last column compares a number of lanes
with half as many in the same round: at 1.00 and above, lanes scale. Medians, and quartiles.
"""

from __future__ import annotations

import argparse

from cartpole import case
from side_by_side import begin, in_turn, ratio, spread

COUNTS = (1, 2, 4, 8, 16, 32, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lanes", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--steps", type=int, default=500, help="of each lane in a timed chunk")
    options = begin(parser)
    cases = {str(lanes): case(lanes, options.steps) for lanes in options.lanes}
    found = {int(name): rates for name, (rates,) in in_turn(cases, options.rounds).items()}
    print(f"{'lanes':>6} {'lane-steps/s':>24} {'to half':>20}")
    for lanes, rates in found.items():
        half = found.get(lanes // 2)
        print(f"{lanes:>6} {spread(rates):>24} {spread(ratio(rates, half)) if half else '':>20}")


if __name__ == "__main__":
    main()
