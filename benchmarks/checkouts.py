"""Two checkouts of this repository side by side: steps a second of the same training, in turn.

    git worktree add ../before COMMIT
    python benchmarks/checkouts.py ../before .

Each case is that of the checkout's own `benchmarks/cartpole.py` and `benchmarks/halfcheetah.py`, in
a process of its own; compile time is apart. The ratio is second over first, round by round.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from side_by_side import Case, begin, in_turn, ratio, spread

CASES = {
    "CartPole, one lane": "import cartpole; figures = cartpole.rates(1)",
    "CartPole, ten lanes": "import cartpole; figures = cartpole.rates(10)",
    "HalfCheetah": "import halfcheetah; figures = halfcheetah.rates()",
}


def case(checkout: Path, code: str) -> Case:
    """The case as that checkout has it: its package and its benchmarks come first in the path."""
    paths = [str(checkout / "benchmarks"), str(checkout / "src")]
    return Case(f"sys.path[:0] = {paths}\n{code}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    options = begin(parser)
    checkouts = [options.first.resolve(), options.second.resolve()]
    for name, code in CASES.items():
        found = in_turn(
            {str(number): case(one, code) for number, one in enumerate(checkouts)}, options.rounds
        )
        first, second = (found[str(number)][0] for number in range(2))
        print(
            f"{name}: {spread(first)} and {spread(second)} steps/s; second over first "
            f"{spread(ratio(second, first))}",
            flush=True,
        )


if __name__ == "__main__":
    main()
