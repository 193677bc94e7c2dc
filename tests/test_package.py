"""The package as users meet it: its version, what importing it does, what it documents."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import learndyn as ld

ROOT = Path(__file__).parent.parent
PAGE = ast.parse((ROOT / "src" / "learndyn" / "__init__.pyi").read_text())
HEAVY = ["h5netcdf", "matplotlib", "pandas", "scipy.stats", "sklearn", "tyro", "xarray"]

MODULES = {"scikit-learn": "sklearn"}
"""Modules that are not named as the distribution is, nor as that with underscores."""

NOT_IMPORTED = {
    "h5netcdf": "xarray finds it as its engine for NetCDF",
    "jupytext": "`nox -s notebooks` calls it",
    "nbmake": "pytest loads it in `nox -s notebooks`",
    "ipykernel": "Jupyter starts it",
}
"""Declared dependencies that no file of `src` imports, and why they are needed all the same."""


def imports_of_the_page():
    """The import statements of the public page, each of which imports one name."""
    return [node for node in PAGE.body if isinstance(node, ast.ImportFrom)]


def public_names():
    """The names that the public page imports."""
    names = [node.names[0].name for node in imports_of_the_page()]
    return [name for name in names if not name.startswith("_")]


def run_alone(script, **environment):
    """Run a script in a new process, where learndyn is not loaded yet.

    A process without EAGER_IMPORT in `environment` loads names when they are used, also where the
    tests themselves run with EAGER_IMPORT.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "EAGER_IMPORT"}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, env=inherited | environment)


def test_importing_loads_no_dependency():
    script = """
import sys
before = set(sys.modules)
import learndyn
dir(learndyn), learndyn.__version__
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
foreign = loaded - set(sys.stdlib_module_names) - {"learndyn", "lazy_loader"}
assert not foreign, f"importing learndyn loads {sorted(foreign)}"
own = {name for name in sys.modules if name.startswith("learndyn.")}
assert own == {"learndyn._version"}, own
"""
    run = run_alone(script)
    assert run.returncode == 0, run.stderr


def test_using_every_name_loads_nothing_heavy_and_leaves_jax_alone():
    script = f"""
import sys, jax
before = dict(jax.config.values)
import learndyn
values = [getattr(learndyn, name) for name in dir(learndyn)]
assert jax.config.values == before, "using learndyn's names changed JAX's configuration"
loaded = [name for name in {HEAVY} if name in sys.modules]
assert not loaded, f"using learndyn's names loads {{loaded}}"
"""
    run = run_alone(script)
    assert run.returncode == 0, run.stderr


def test_eager_import_loads_the_whole_page():
    """A line of the page that names something absent must fail at once (SPEC 1)."""
    script = """
import sys, learndyn
needed = {"jax", "learndyn.testing", "learndyn.sweeps", "learndyn.asymptotics", "learndyn.plot"}
assert needed <= set(sys.modules), needed - set(sys.modules)
"""
    run = run_alone(script, EAGER_IMPORT="1")
    assert run.returncode == 0, run.stderr


def test_the_page_has_only_lines_that_lazy_loader_reads():
    """It reads relative imports with one dot; type checkers re-export only `x as x`."""
    allowed = (ast.Expr, ast.ImportFrom)
    assert all(isinstance(node, allowed) for node in PAGE.body)
    for node in imports_of_the_page():
        (alias,) = node.names
        assert node.level == 1, ast.unparse(node)
        assert alias.asname == alias.name, ast.unparse(node)


def test_the_module_shows_the_names_of_the_page_and_no_others():
    names = [node.names[0].name for node in imports_of_the_page()]
    assert dir(ld) == sorted(names)
    assert len(set(names)) == len(names)
    with pytest.raises(AttributeError, match="no_such_name"):
        ld.no_such_name  # noqa: B018


def test_a_patched_name_stays_patched(monkeypatch):
    """`validation/mutants` puts faults into the package by `setattr`."""
    monkeypatch.setattr(ld, "weights_from_overlaps", "patched")
    assert ld.weights_from_overlaps == "patched"
    from learndyn import weights_from_overlaps

    assert weights_from_overlaps == "patched"


def test_modules_of_sweeps_can_be_imported_under_a_name():
    """The package is `sweeps`, since `learndyn.sweep` is a function."""
    script = """
import learndyn.sweeps._plan as plan
import learndyn
assert callable(learndyn.sweep)
assert plan.__name__ == "learndyn.sweeps._plan"
"""
    run = run_alone(script)
    assert run.returncode == 0, run.stderr


def declared():
    """The distributions that the dependencies and extras of pyproject.toml name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.match(r"[\w-]+", line)[0] for lines in lists for line in lines}
    return names - {project["name"]}  # an extra may name others of the package itself


def imported():
    """The modules outside the package that `src` imports, by their first names."""
    trees = [ast.parse(file.read_text()) for file in (ROOT / "src").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {module.partition(".")[0] for module in modules}


def test_every_declared_dependency_is_imported():
    found = imported()
    unused = {name for name in declared() if MODULES.get(name, name.replace("-", "_")) not in found}
    assert unused == set(NOT_IMPORTED)


def test_every_import_is_declared():
    foreign = imported() - set(sys.stdlib_module_names) - {"learndyn"}
    assert foreign <= {MODULES.get(name, name.replace("-", "_")) for name in declared()}


def test_one_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", citation, flags=re.MULTILINE)[1] == ld.__version__
    assert f"## {ld.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_one_version_of_ruff():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (pinned,) = (p for p in project["dependency-groups"]["lint"] if p.startswith("ruff"))
    hooks = re.findall(r'"(ruff==.*?)"', (ROOT / ".pre-commit-config.yaml").read_text())
    assert set(hooks) == {pinned}


@pytest.mark.parametrize("name", public_names())
def test_every_public_name_has_a_docstring_and_a_place_in_the_reference(name):
    value = getattr(ld, name)
    assert value.__doc__, f"learndyn.{name} has no docstring"
    assert name in documented(), (
        f"learndyn.{name} is not in docs/reference; add '.. autofunction:: learndyn.{name}' there"
    )


def documented():
    """Names that the reference shows."""
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    directive = r"^\.\. auto(?:class|function|module):: learndyn\.(\w+)$"
    return set(re.findall(directive, pages, flags=re.MULTILINE))
