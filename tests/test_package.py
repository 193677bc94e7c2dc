"""The package as users meet it: its version, what importing it does, what it documents."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import learndyn as ld

ROOT = Path(__file__).parent.parent
HEAVY = ["dask", "h5netcdf", "matplotlib", "pandas", "scipy.stats", "sklearn", "tyro", "xarray"]


def re_exported():
    """The names of the public page, `src/learndyn/__init__.py`: all that is imported as itself."""
    tree = ast.parse(Path(ld.__file__).read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    names = [alias.asname for node in imports for alias in node.names if alias.asname]
    return [name for name in names if not name.startswith("_")]


def test_importing_loads_nothing_heavy_and_leaves_jax_alone():
    script = f"""
import sys, jax
before = dict(jax.config.values)
import learndyn
assert jax.config.values == before, "importing learndyn changed JAX's configuration"
loaded = [name for name in {HEAVY} if name in sys.modules]
assert not loaded, f"importing learndyn loads {{loaded}}"
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_one_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", citation, flags=re.MULTILINE)[1] == ld.__version__
    assert f"## {ld.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_one_version_of_ruff():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (pinned,) = (p for p in project["dependency-groups"]["lint"] if p.startswith("ruff"))
    hooks = re.findall(r'"(ruff==.*?)"', (ROOT / ".pre-commit-config.yaml").read_text())
    assert set(hooks) == {pinned}


@pytest.mark.parametrize("name", re_exported())
def test_every_public_name_has_a_docstring_and_a_place_in_the_reference(name):
    value = getattr(ld, name)
    assert value.__doc__, f"learndyn.{name} has no docstring"
    assert name in documented(), (
        f"learndyn.{name} is not in docs/reference; add the line '::: learndyn.{name}'"
    )


def documented():
    """Names that the reference shows: one by one, or with the module that holds them."""
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    shown = re.findall(r"^::: learndyn\.(\w+)$", pages, flags=re.MULTILINE)
    modules = [vars(ld)[name] for name in shown if isinstance(vars(ld).get(name), ModuleType)]
    return {*shown, *(name for module in modules for name in vars(module))}
