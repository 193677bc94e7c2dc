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


BLOCK = re.compile(
    r"^```(?:python|\{code-cell\} ipython3)\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?", re.M | re.S
)
"""A block of code, and the block of text right behind it, which is what it prints. The cells of the
primer have no such text: the build of the pages puts it there."""

PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
PAGES = sorted(page for page in PAGES if BLOCK.search((ROOT / page).read_text()))

BY_DAY = ["README.md", "docs/howto/from-nn2pp.md"]
"""The cheapest, and one that prints numbers."""

NEEDS = {
    "docs/howto/cluster.md": "zarr",
    "docs/howto/images.md": "sklearn",
    "docs/howto/schedule.md": "optax",
}
"""Packages of extras that a page uses."""

CLOSE, TINY = 0.03, 2e-4
"""How far a printed number may be from that on the page, relative and absolute. A chain or a run of
SGD takes another way where another compiler rounds otherwise, and their means then differ by a
share of their scatter."""


@pytest.mark.nightly(by_day=BY_DAY)
@pytest.mark.parametrize("page", PAGES)
def test_the_code_shown_runs_and_prints_what_is_shown(page, tmp_path, monkeypatch, capsys):
    if page in NEEDS:
        pytest.importorskip(NEEDS[page])
    monkeypatch.chdir(tmp_path)
    # Guides, theory and primer are small as they stand, and some of their numbers are asserted.
    smaller = {} if page.startswith(("docs/howto", "docs/theory", "docs/primer")) else SMALLER
    namespace = {}
    for code, shown in BLOCK.findall((ROOT / page).read_text()):
        for large, small in smaller.items():
            code = code.replace(large, small)
        exec(compile(code, page, "exec"), namespace)
        printed = capsys.readouterr().out
        if shown:
            assert_same_words(printed, shown)


def assert_same_words(printed, shown):
    """The same words in the same order, where numbers may differ a little."""
    words, expected = (
        re.split(r"([-+]?\d[\d.e+-]*|\s+)", text.strip()) for text in (printed, shown)
    )
    words, expected = ([w for w in each if w.strip()] for each in (words, expected))
    assert len(words) == len(expected), printed
    for word, other in zip(words, expected, strict=True):
        try:
            numbers = float(word), float(other)
        except ValueError:
            assert word == other, printed
        else:
            assert numbers[0] == pytest.approx(numbers[1], rel=CLOSE, abs=TINY), printed


def documented():
    """The full names on the pages of the reference, such as learndyn.flow.Run."""
    pages = sorted((ROOT / "docs" / "reference").glob("*.md"))
    text = "\n".join(path.read_text() for path in pages)
    return re.findall(r"^\.\. auto(?:class|data|function|module):: (\S+)$", text, re.M)


@pytest.mark.parametrize("module", ["asymptotics", "flow", "conventions", "plot", "atlas"])
def test_every_name_of_a_public_room_is_in_the_reference(module):
    source = (ROOT / "src" / "learndyn" / module / "__init__.py").read_text()
    names = re.findall(r"^from .* import \w+ as (\w+)", source, re.M)
    assert len(names) > 5
    names = [name for name in names if not name.isupper()]  # constants are in the room's own words
    assert [name for name in names if f"learndyn.{module}.{name}" not in documented()] == []


NAMING = ["contributing.md", *(f"theory/{path.name}" for path in (ROOT / "docs/theory").glob("*"))]
NAMING = [page for page in NAMING if page not in ("theory/index.md", "theory/gradient-flow.md")]


@pytest.mark.parametrize("page", NAMING)
def test_the_files_that_a_page_names_have_the_functions_that_it_names(page):
    named = re.findall(r"`([\w/]+\.pyi?)(?::\s+(\w+))?`", (ROOT / "docs" / page).read_text())
    assert len(named) > (50 if page == "contributing.md" else 2)
    for path, name in named:
        places = [ROOT / path, ROOT / "src" / "learndyn" / path]
        source = "".join(place.read_text() for place in places if place.is_file())
        assert source, f"there is no {path}"
        defined = rf"^( *def |class |from \S+ import ){name}\b|^{name}\b.* = "
        assert not name or re.search(defined, source, re.M), f"{path} does not define {name}"


def test_the_claims_that_pages_name_are_in_the_scorecard():
    scorecard = (ROOT / "validation" / "RESULTS.md").read_text()
    claims = set(re.findall(r"^\| ([a-z][\w-]+) \|", scorecard, re.M))
    families = {claim.partition("-")[0] for claim in claims if "-" in claim}
    pages = [ROOT / "docs" / "errata.md", *(ROOT / "docs" / "theory").glob("*.md")]
    named = re.findall(r"`([a-z]+-[a-z\d-]+)`", "\n".join(page.read_text() for page in pages))
    named = [name for name in named if name.partition("-")[0] in families]
    assert len(named) > 30
    assert not set(named) - claims
