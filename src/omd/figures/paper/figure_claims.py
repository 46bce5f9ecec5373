"""The table of the paper's claims: each held against the lanes of the sweeps and runs given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from omd.analysis import claims
from omd.analysis.frames import final_returns, results
from omd.errors import InputError
from omd.figures.paper.swept import best
from omd.sweeps import race

POINT = [
    "env",
    "objective",
    "model_hidden",
    "distractors",
    "inner_steps",
    "critics",
    "hypergradient",
    "model_output",
]


def make(
    out: Path, *, sweeps: Sequence[str | Path] = (), runs: Sequence[str | Path] = ()
) -> list[Path]:
    """Writes claims.csv and claims.md: a line for each claim of section 7 and appendices D to F at
    each point, with both measures, the number of seeds and what would decide it.

    Of several settings of the inner loop that a sweep tried at a point the best counts, as in
    appendix D. Raises `InputError` where there is no folder, and where no lane is finished.
    """
    folders = [*sweeps, *runs]
    if not folders:
        raise InputError(
            "the table of claims is made from results: give --sweep FOLDER or --run FOLDER, one or "
            "more"
        )
    found = []
    for folder in folders:
        finals = final_returns(results(folder))
        if "purpose" in finals:
            finals = finals[finals["purpose"] != race.CHOICE]
        found.append(finals.assign(source=Path(folder).resolve().name))
    lanes = pd.concat(found, ignore_index=True)
    if lanes.empty:
        raise InputError(f"no lane of {', '.join(map(str, folders))} is finished yet")
    chosen = best(lanes, POINT)
    return claims.write(claims.table(chosen), out, "claims")
