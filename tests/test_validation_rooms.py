"""What may import what in `validation/`: claims stand side by side, above the tools."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

VALIDATION = Path(__file__).parent.parent / "validation"
CLAIMS = sorted(VALIDATION.glob("test_*.py"))
TOOLS = sorted(file for room in ("lab", "measure") for file in (VALIDATION / room).rglob("*.py"))


def imported(source: str) -> Iterator[str]:
    """The names of the modules that a source imports, and of what it takes from them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def claims_in(source: str) -> list[str]:
    """The claims' files among the modules that a source imports."""
    return [name for name in imported(source) if "test_" in name]


@pytest.mark.parametrize(
    "file", CLAIMS + TOOLS, ids=lambda file: file.relative_to(VALIDATION).as_posix()
)
def test_nothing_is_imported_from_a_claim(file):
    assert not claims_in(file.read_text())


@pytest.mark.parametrize(
    "source",
    [
        "from validation.test_linear import judge",
        "from validation import test_linear",
        "import validation.test_linear as linear",
        "def measure():\n    from validation.test_linear import judge",
    ],
)
def test_an_import_from_a_claim_is_seen(source):
    assert claims_in(source)


def test_there_are_claims_and_tools():
    assert len(CLAIMS) > 20
    assert {"laboratory.py", "ensembles.py"} <= {file.name for file in TOOLS}
