"""Links to other libraries' documentation, where the build can reach it.

Sphinx warns of an inventory that it cannot fetch, and a strict build would fail. So each is fetched
here first, with a short timeout; what does not answer is left out and named.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

PAGES = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "jax": "https://docs.jax.dev/en/latest/",
    "xarray": "https://docs.xarray.dev/en/stable/",
    "equinox": "https://docs.kidger.site/equinox/",
    "diffrax": "https://docs.kidger.site/diffrax/",
    "matplotlib": "https://matplotlib.org/stable/",
}
SECONDS = 4
"""All are asked at once, so that a build without a network waits for so long in total."""

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict:
    # Before intersphinx reads the mapping, which it does at priority 800.
    app.connect("config-inited", fetch_inventories, priority=100)
    return {"parallel_read_safe": True}


def fetch_inventories(app: Sphinx, config: Config) -> None:
    folder = Path(app.doctreedir) / "inventories"
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        fetched = pool.map(lambda name: fetch(name, folder), PAGES)
    files = dict(zip(PAGES, fetched, strict=True))
    config.intersphinx_mapping = {
        name: (PAGES[name], str(file)) for name, file in files.items() if file is not None
    }
    if missing := [name for name, file in files.items() if file is None]:
        logger.info(f"no links to {', '.join(missing)}: their documentation does not answer")


def fetch(name: str, folder: Path) -> Path | None:
    """The inventory's file: fetched now, or, without an answer, the one of an earlier build."""
    file = folder / f"{name}.inv"
    request = Request(f"{PAGES[name]}objects.inv", headers={"User-Agent": "Sphinx"})
    try:
        with urlopen(request, timeout=SECONDS) as answer:
            file.write_bytes(answer.read())
    except (URLError, OSError):
        pass
    return file if file.is_file() else None
