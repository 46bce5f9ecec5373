"""Imports point one way."""

import ast
import pathlib

import omd

SOURCE = pathlib.Path(omd.__file__).parent
BASE = {"errors", "types"}
ALLOWED = {
    "errors": set(),
    "compilation": set(),
    "types": {"errors"},
    "settings": {"errors"},
    "config": {"errors", "settings", "implicit"},
    "implicit": {"errors"},
    "tabular": BASE | {"compilation", "implicit"},
    "envs": BASE,
    "agents": BASE | {"implicit", "config"},
    "training": BASE | {"agents", "compilation", "envs", "config"},
    "runs": BASE | {"agents", "config", "envs", "training"},
    "sweeps": BASE | {"agents", "config", "envs", "training", "runs"},
    "analysis": BASE | {"config", "runs", "sweeps"},
    "figures": BASE | {"config", "tabular", "implicit", "runs", "sweeps", "analysis"},
    "reports": BASE | {"config", "envs", "implicit", "runs", "sweeps", "analysis", "figures"},
    "experiment": BASE | {"config", "runs", "sweeps", "figures"},
}


def rooms_of(path):
    """Rooms of ours that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            first, _, rest = name.partition(".")
            if first == "omd" and rest:
                yield rest.partition(".")[0]


def test_imports_point_one_way():
    seen = set()
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room in ("__init__", "cli"):
            continue
        wrong = set(rooms_of(path)) - ALLOWED[room] - {room}
        assert not wrong, f"{path.relative_to(SOURCE)} imports {wrong}"
        seen.add(room)
    assert seen == set(ALLOWED)
