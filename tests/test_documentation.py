"""The code that the documentation shows runs, on smaller sizes, and the files it names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SMALLER = {
    "n=784": "n=24",
    "jnp.sqrt(784.0)": "jnp.sqrt(24.0)",
    "k=4, m=4": "k=2, m=2",
    "jnp.linspace(0.0, 300.0, 301)": "jnp.linspace(0.0, 2.0, 3)",
    "alpha=100.0": "alpha=1.0",
    "seeds=32": "seeds=2",
}


PAGES = [
    "README.md",
    "docs/quickstart.md",
    "docs/reference/asymptotics.md",
    "docs/reference/flow.md",
    "docs/reference/flow-theory.md",
    "docs/reference/problems.md",
]


@pytest.mark.nightly(by_day=["README.md", "docs/quickstart.md"])
@pytest.mark.parametrize("page", PAGES)
def test_the_code_shown_runs(page):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    assert blocks
    namespace = {}
    for block in blocks:
        for shown, smaller in SMALLER.items():
            block = block.replace(shown, smaller)
        exec(compile(block, page, "exec"), namespace)


def documented():
    """The full names on the pages of the reference, such as learndyn.flow.Run."""
    pages = sorted((ROOT / "docs" / "reference").glob("*.md"))
    text = "\n".join(path.read_text() for path in pages)
    return re.findall(r"^\.\. auto(?:class|function|module):: (\S+)$", text, re.M)


@pytest.mark.parametrize("module", ["asymptotics", "flow", "conventions", "plot"])
def test_every_name_of_a_public_room_is_in_the_reference(module):
    source = (ROOT / "src" / "learndyn" / module / "__init__.py").read_text()
    names = re.findall(r"^from .* import \w+ as (\w+)", source, re.M)
    assert len(names) > 5
    assert [name for name in names if f"learndyn.{module}.{name}" not in documented()] == []


def test_the_files_that_contributing_names_have_the_functions_that_it_names():
    page = (ROOT / "docs" / "contributing.md").read_text()
    named = re.findall(r"`([\w/]+\.pyi?)(?::\s+(\w+))?`", page)
    assert len([name for _, name in named if name]) > 30
    for path, name in named:
        places = [ROOT / path, ROOT / "src" / "learndyn" / path]
        source = "".join(place.read_text() for place in places if place.is_file())
        assert source, f"there is no {path}"
        defined = rf"^(def |class |from \S+ import ){name}\b|^{name}\b.* = "
        assert not name or re.search(defined, source, re.M), f"{path} does not define {name}"
