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


@pytest.mark.parametrize("module", ["asymptotics", "flow"])
def test_every_public_name_of_a_sorted_page_is_on_it(module):
    pages = sorted((ROOT / "docs" / "reference").glob(f"{module}*.md"))
    page = "\n".join(path.read_text() for path in pages)
    source = (ROOT / "src" / "learndyn" / module / "__init__.py").read_text()
    names = re.findall(r"import \w+ as (\w+)", source)
    assert len(names) > 30
    missing = [name for name in names if f"::: learndyn.{module}.{name}\n" not in page + "\n"]
    assert not missing


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
