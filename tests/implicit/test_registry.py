import ast
import pathlib

import pytest

import omd.implicit
from omd import implicit
from omd.errors import InputError
from omd.implicit import registry


@pytest.mark.parametrize("name", registry.classes())
def test_every_name_has_a_default(name):
    assert isinstance(implicit.get(name), registry.classes()[name])


def test_settings_by_keyword_and_by_text():
    assert implicit.get("cg", damping=1e-3) == implicit.CG(damping=1e-3)
    assert implicit.get("cg:damping=1e-3,max_steps=7") == implicit.CG(1e-3, max_steps=7)
    assert implicit.get("neumann:terms=3", step=0.5) == implicit.Neumann(3, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gmers", "unknown hypergradient 'gmers': did you mean gmres"),
        ("???", r"unknown hypergradient '\?\?\?': give one of cg, dense"),
        ("cg:dampng=1", "setting of cg 'dampng': did you mean damping"),
        ("cg:damping", "written key=value, not 'damping'"),
        ("cg:damping=lots", "damping of cg is 'lots': give a number"),
        ("cg:damping=-1", "damping of cg is -1: give a number of at least 0"),
    ],
)
def test_bad_names_and_settings(text, message):
    with pytest.raises(InputError, match=message):
        implicit.get(text)


def test_imports_nothing_of_ours():
    for path in pathlib.Path(omd.implicit.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                modules = [node.module]
            for module in modules:
                ours = module.startswith("omd") and not module.startswith("omd.implicit")
                leaf = module in ("omd", "omd.catalogue", "omd.errors", "omd.parts")
                assert not ours or leaf, path
