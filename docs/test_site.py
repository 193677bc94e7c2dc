"""The pages that `nox -s docs` has built, as a reader meets them: from disk, in a browser."""

from pathlib import Path

import browser
import pytest

SITE = Path(__file__).parent.parent / "site"
FILES = sorted(path.relative_to(SITE) for path in SITE.rglob("*.html"))
PAGES = [path.as_posix() for path in FILES if path.parts[0] != "_static"]
WRITTEN = [page for page in PAGES if page not in ("genindex.html", "search.html")]

pytestmark = pytest.mark.skipif(browser.chromium() is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.tab(SITE / "index.html", tmp_path_factory.mktemp("browser")) as tab:
        yield tab


def test_search_finds_a_function_without_a_server(tab):
    tab.open(SITE / "search.html", 1200, 900, dark=False)
    tab.run("location.search = '?q=fixed_point'")
    tab.wait("document.querySelector('#search-results li a') !== null")
    found = "[...document.querySelectorAll('#search-results li a')].map(a => a.href).join()"
    assert "reference/asymptotics.html" in tab.run(found)


ASKED = "performance.getEntriesByType('resource').map(e => e.name).filter(n => /^http/.test(n))"


@pytest.mark.parametrize("page", PAGES)
def test_no_page_asks_the_network_or_complains(tab, page):
    tab.complaints.clear()
    tab.open(SITE / page, 1200, 900, dark=False)
    errors = [text for text in tab.complaints if "'type': 'log'" not in text]
    assert (tab.run(ASKED), errors) == ([], [])


SHOWN = """[...document.querySelectorAll('article img')].filter(e => e.offsetWidth > 300)
    .map(e => [e.src.split('/').pop(), getComputedStyle(e).backgroundColor])"""


@pytest.mark.parametrize(
    ("dark", "name"), [(False, "sgd-and-theory"), (True, "sgd-and-theory-dark")]
)
def test_the_home_page_shows_the_figure_in_the_colours_of_the_page(tab, dark, name):
    tab.open(SITE / "index.html", 390, 844, dark)
    assert tab.run(SHOWN) == [[f"{name}.svg", "rgba(0, 0, 0, 0)"]]


ON_THE_LINE = """[...document.querySelectorAll('msub')].filter(e => {
    const [base, index] = [...e.children].map(child => child.getBoundingClientRect());
    return index.bottom <= base.bottom;
}).length"""


def test_subscripts_stand_below_the_line_whatever_fonts_there_are(tab):
    tab.open(SITE / "theory" / "equations-of-motion.html", 1200, 900, dark=False)
    tab.wait("document.fonts.status === 'loaded'")
    assert tab.run(ON_THE_LINE) == 0


CUT = """[...document.querySelectorAll('div.highlight pre')]
    .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"""


@pytest.mark.parametrize("width", [1200, 1440])
@pytest.mark.parametrize("page", WRITTEN)
def test_code_is_not_cut_at_desktop_width(tab, page, width):
    tab.open(SITE / page, width, 900, dark=False)
    assert tab.run(CUT) == []


BROKEN = """[...document.querySelectorAll('article table td code')]
    .filter(e => !e.closest('p.type') && e.getClientRects().length > 1).map(e => e.textContent)"""


@pytest.mark.parametrize("page", WRITTEN)
def test_on_a_phone_names_are_whole_and_the_page_does_not_scroll_sideways(tab, page):
    tab.open(SITE / page, 390, 844, dark=True)
    assert tab.run("document.documentElement.scrollWidth") <= 390
    assert tab.run(BROKEN) == []
