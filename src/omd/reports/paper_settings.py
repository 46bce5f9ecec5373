"""What the paper's CartPole study was run with, and in what a run here differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omd import catalogue, parts
from omd.runs.stored import MOVED

APPENDIX_D: dict[str, list[Any]] = {
    "env": ["CartPole-v1"],
    "objective": ["omd", "mle", "vep"],
    "seeds": [10],
    "steps": [200_000],
    "learning_rate": [1e-3],
    "inner_learning_rate": [3e-4, 1e-3, 3e-3],
    "tau": [0.005, 0.01],
    "temperature": [0.01],
    "epsilon": [0.1],
    "discount": [0.99],
    "hidden": [32],
    "model_hidden": [32, 1, 2, 3, 4, 6, 12],
    "batch_size": [256],
    "inner_steps": [1, 3, 10],
    "distractors": [0, 16, 32, 64, 128, 256, 512],
    "model": ["deterministic"],
    "reward": ["learned"],
    "operator": ["soft"],
    "critics": [1, 2],
    "start": ["warm"],
    "evaluate_episodes": [10],
    "vep_values": [5],
}
"""Values in the paper's text."""

PROGRAM: dict[str, list[Any]] = {
    "random_steps": [1000],
    "evaluate_every": [1000],
    "inner_optimizer": ["auto"],
    "constraint_target": ["moved"],
    "outer_batch": ["same"],
    "hypergradient": ["identity", "cg:damping=1e-5,max_steps=100"],
    "precision": ["float64"],
    "replay_capacity": [None],
    "model_output": ["state"],
}
"""Values of the authors' program, where the text names none."""


def differences(settings: Mapping[str, Any]) -> list[str]:
    """A sentence for each setting with values that the paper doesn't have, and for each value of
    its grids that was left out."""
    found = []
    settings = _opened(settings)
    for source, known in (("paper", APPENDIX_D), ("authors' program", PROGRAM)):
        for name, theirs in known.items():
            value = settings.get(name)
            mine = value if isinstance(value, list) else [value]
            other = [v for v in mine if v not in theirs]
            if name not in settings:
                continue
            if other:
                here = ", ".join(map(str, other))
                there = ", ".join(map(str, theirs))
                found.append(f"{name} is {here} here; the {source} has {there}")
            elif name in ("inner_learning_rate", "tau") and len(mine) < len(theirs):
                left = ", ".join(str(v) for v in theirs if v not in mine)
                found.append(f"{name}: the {source}'s grid also has {left}")
    return found


def _opened(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Shipped objectives and learners by name alone, and their settings beside the others; those
    that a file of an older version has there already are kept."""
    found = dict(settings)
    for kind in {kind for kind, _, _ in MOVED.values()} & set(settings):
        shipped, values = catalogue.entries(kind), settings[kind]
        values = values if isinstance(values, list) else [values]
        texts = {str(v): str(v).partition(":")[0] for v in values}
        found[kind] = list(dict.fromkeys(n if n in shipped else t for t, n in texts.items()))
        for name, (of, part, inner) in MOVED.items():
            mine = [t for t, n in texts.items() if (of, part) == (kind, n)]
            if mine and name not in settings:
                inside = [getattr(parts.part_of(kind, text), inner) for text in mine]
                found[name] = list(dict.fromkeys(inside))
    return found
