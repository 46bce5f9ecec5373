"""Imports point one way."""

import ast
import collections
import importlib
import inspect
import pathlib
import typing

import pytest

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
    "cores": ASKED | {"envs", "runs", "training"},
    "implicit": {"catalogue", "errors", "parts"},
    "tabular": BASE | {"compilation", "implicit"},
    "envs": BASE | {"config"},
    "agents": ASKED | {"implicit"},
    "training": ASKED | {"agents", "compilation", "envs"},
    "runs": ASKED | {"agents", "callbacks", "compilation", "envs", "training"},
    "sweeps": ASKED | {"agents", "callbacks", "envs", "training", "runs"},
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


def modules():
    return [path for path in SOURCE.rglob("*.py") if path.stem != "__init__"]


def test_no_two_modules_have_one_name():
    names = collections.Counter(path.stem for path in modules())
    assert [name for name, count in names.items() if count > 1] == []


def test_nothing_is_named_like_its_module():
    for path in modules():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.name != path.stem, f"{path.relative_to(SOURCE)} defines {node.name}"


PUBLIC = [
    "omd",
    *(f"omd.{room.name}" for room in sorted(SOURCE.iterdir()) if (room / "__init__.py").exists()),
    "omd.envs.host",
    "omd.agents.learners",
    "omd.agents.models",
    "omd.agents.objectives",
    "omd.tabular.design",
    "omd.tabular.estimation",
]


@pytest.mark.parametrize("name", PUBLIC)
def test_all_names_that_a_package_offers_are_there_and_have_true_annotations(name):
    package = importlib.import_module(name)
    offered = getattr(package, "__all__", [])
    assert len(offered) == len(set(offered))
    for each in offered:
        value = getattr(package, each)
        for part in (value, *vars(value).values()) if inspect.isclass(value) else (value,):
            part = getattr(part, "func", None) or getattr(part, "fget", None) or part
            if inspect.isfunction(part) or inspect.isclass(part):
                assert typing.get_type_hints(part) is not None
    shown = {
        each
        for each, value in vars(package).items()
        if not each.startswith("_")
        and not inspect.ismodule(value)
        and getattr(value, "__module__", "").startswith("omd")
    }
    assert shown <= set(offered) | ({"annotations"} if offered else shown)
