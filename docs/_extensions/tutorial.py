"""Renders the notebooks of `notebooks/` with what they print and draw.

Their sources are scripts. Executed ones lie in `build/notebooks`, where `nox -s notebooks` leaves
them; one that is missing there, or has other code than its script, is executed now.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = ROOT / "notebooks"
EXECUTED = ROOT / "build" / "notebooks"
PAGES = ROOT / "docs" / "tutorial"
SIDE_BY_SIDE = 2
"""Notebooks that are executed at a time: each keeps about one core busy."""
PATIENCE = 900
"""Seconds that one cell may take, as in `nox -s notebooks`; the slowest takes a minute."""

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict:
    app.connect("config-inited", write_notebooks)
    return {"parallel_read_safe": True}


def write_notebooks(app: Sphinx, config: Config) -> None:
    """Leave an executed notebook in docs/tutorial for every script."""
    for folder in (EXECUTED, PAGES):
        folder.mkdir(parents=True, exist_ok=True)
    scripts = sorted(SCRIPTS.glob("*.py"))
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for script, notebook in zip(scripts, pool.map(executed, scripts), strict=True):
            write_if_changed(PAGES / f"{script.stem}.ipynb", as_page(notebook))


def executed(script: Path) -> nbformat.NotebookNode:
    """The notebook of `script` with its outputs; words come from the script, which is newer."""
    notebook, stored = jupytext.read(script), EXECUTED / f"{script.stem}.ipynb"
    if not (stored.is_file() and same_code(notebook, nbformat.read(stored, 4))):
        logger.info(f"executing {script.name}")
        client = NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3")
        client.execute(cwd=str(SCRIPTS), env=os.environ | {"EQX_ON_ERROR": "nan"})
        nbformat.write(notebook, stored)
        return notebook
    outputs = iter(code_cells(nbformat.read(stored, 4)))
    for cell in code_cells(notebook):
        cell.outputs = next(outputs).outputs
    return notebook


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def same_code(one: nbformat.NotebookNode, other: nbformat.NotebookNode) -> bool:
    sources = [[cell.source for cell in code_cells(notebook)] for notebook in (one, other)]
    return sources[0] == sources[1] and any(cell.outputs for cell in code_cells(other))


def as_page(notebook: nbformat.NotebookNode) -> str:
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # jupytext draws them at random each time
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace("](../docs/", "](../")
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT)


def write_if_changed(path: Path, text: str) -> None:
    """Sphinx reads a page again where its file is newer."""
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)
