"""How much of what plain matrix products reach is left to OMD as distractors are added to CartPole.

    taskset -c 0,1 python benchmarks/distractors.py          # two cores
    taskset -c 0,1 python benchmarks/distractors.py --distractors 0 512

One lane on one thread, one update a step, batch 256, 32 units, compile time apart. Reachable is the
rate of the update's own products made one after another, weighted as in `roofline.py`; the update
and they take turns. Medians and quartiles.
"""

from __future__ import annotations

import argparse

from cartpole import case, reachable
from side_by_side import begin, in_turn, ratio, spread


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--distractors", type=int, nargs="+", default=(0, 16, 128, 512))
    options = begin(parser)
    for count in options.distractors:
        cases = {
            "rates": case(1, 200, distractors=count),
            "reachable": reachable(distractors=count),
        }
        found = in_turn(cases, options.rounds)
        mixed, _, work = found["reachable"]
        (rates,) = found["rates"]
        achieved = [a * b for a, b in zip(rates, work, strict=True)]
        print(
            f"{count} distractors: {spread(rates)} steps/s of {1e3 * work[0]:.1f} MFLOP; "
            f"{spread(achieved)} GFLOP/s achieved, {spread(mixed)} reachable: "
            f"{spread(ratio(achieved, mixed))}",
            flush=True,
        )


if __name__ == "__main__":
    main()
