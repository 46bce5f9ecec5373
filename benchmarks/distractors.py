"""How much of what plain matrix products reach is left to OMD as distractors are added to CartPole.

    taskset -c 0,1 python benchmarks/distractors.py          # two cores
    taskset -c 0,1 python benchmarks/distractors.py --distractors 0 512

One lane on one thread, one update a step, batch 256, 32 units, compile time apart. Reachable is the
rate of the update's own products made one after another, weighted as in `roofline.py`.
"""

from __future__ import annotations

import argparse

from cartpole import measured, reachable
from omd.training.provenance import provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--distractors", type=int, nargs="+", default=(0, 16, 128, 512))
    options = parser.parse_args()
    machine = provenance()
    print(f"{machine['processor']}, JAX {machine['versions']['jax']}, {machine['device']}")
    for distractors in options.distractors:
        mixed, _, flops = reachable(distractors=distractors)
        rate = measured(1, objective="omd", distractors=distractors)
        achieved = rate * flops / 1e9
        print(
            f"  {flops / 1e6:.1f} MFLOP a step: {achieved:.1f} GFLOP/s achieved, "
            f"{mixed:.1f} reachable: {achieved / mixed:.2f}"
        )


if __name__ == "__main__":
    main()
