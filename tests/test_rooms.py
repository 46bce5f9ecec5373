"""Imports point one way."""

import ast
import pathlib

import omd

SOURCE = pathlib.Path(omd.__file__).parent
BASE = {"errors", "types", "catalogue", "parts"}
ASKED = BASE | {"config", "settings", "memory"}
ALLOWED = {
    "errors": set(),
    "catalogue": set(),
    "compilation": set(),
    "types": set(),
    "parts": {"catalogue", "errors"},
    "config": {"catalogue", "errors", "parts"},
    "memory": {"catalogue", "config", "errors"},
    "settings": BASE | {"agents", "config", "implicit"},  # agents and implicit for types only
    "callbacks": ASKED,
    "implicit": {"catalogue", "errors", "parts"},
    "tabular": BASE | {"compilation", "implicit"},
    "envs": BASE | {"config"},
    "agents": ASKED | {"implicit"},
    "training": ASKED | {"agents", "compilation", "envs"},
    "runs": ASKED | {"agents", "callbacks", "compilation", "envs", "training"},
    "sweeps": ASKED | {"agents", "envs", "training", "runs"},
    "analysis": ASKED | {"runs", "sweeps"},
    "figures": ASKED | {"tabular", "implicit", "runs", "sweeps", "analysis"},
    "reports": ASKED | {"envs", "implicit", "runs", "sweeps", "analysis", "figures"},
    "experiment": ASKED | {"callbacks", "envs", "training", "runs", "sweeps", "figures"},
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
