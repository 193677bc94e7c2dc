"""The page as text, as a file, and as what a notebook shows."""

import html
import json
import os
import string
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learndyn.datasets import require_writable
from learndyn.plot.explorer._data import page_data

if TYPE_CHECKING:
    import xarray

_HEIGHT = 900
"""Pixels of the frame in a notebook: the curve, the controls and two rows of matrices fit."""


class Page:
    """An interactive page. A notebook shows it; `html` is its text, `save` writes it.

    Args:
        text: of the HTML file.

    Example:
        >>> page = plot.Page("<!doctype html><title>A run</title>")
        >>> page.save("run.html").read_text() == page.html
        True
    """

    def __init__(self, text: str):
        self.html = text

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page, and replace what is there. Returns: the path.

        Args:
            path: ending in .html.

        Raises:
            ValueError: for a path that does not end in .html.
            OSError: where no file can be written there.
        """
        path = page_path(path)
        require_writable(path)
        path.write_text(self.html, encoding="utf-8")
        return path

    def _repr_html_(self) -> str:
        # The page gets a frame: scripts in the output of a cell may not run, and styles would mix.
        look = f"width:100%;height:{_HEIGHT}px;border:0"
        return f'<iframe srcdoc="{html.escape(self.html)}" style="{look}"></iframe>'

    def __repr__(self) -> str:
        size = len(self.html.encode()) / 1e6
        return f"Page({size:.2f} MB; show it in a notebook, or write it with .save(path))"


def explore(dataset: "xarray.Dataset", theory: "xarray.Dataset | None" = None) -> Page:
    """An interactive page of a run, an ensemble, a sweep, or a gradient flow.

    The page has the learning curves (of several seeds the median and the middle 68 %), a slider of
    time that moves Q, R, T, v and b, and a slider for each swept dimension and for the run. It is
    one file that needs no network, at most 3 MB large unless a single time of all cells is more: a
    larger sweep shows the matrices at fewer times, and of fewer seeds, and says so. Numbers are
    rounded to float32. Of a gradient flow, the loss and its layers are shown.

    Args:
        dataset: of `to_dataset`, `sweep` or `load`.
        theory: a dataset to draw next to it; of `fluctuations`, it adds the band of one standard
            deviation that theory predicts for single runs, std / sqrt n. Its swept dimensions are
            the same numbers, or fewer.

    Returns:
        A page that a notebook shows, with `save(path)` and its text, `html`.

    Raises:
        ValueError: for anything but such datasets, for an axis that differs between them, and for
            jumps, which have no time axis.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> page = plot.explore(ld.to_dataset(run))
        >>> page.save("run.html").name
        'run.html'
    """
    return Page(_filled(page_data(dataset, theory)))


def page_path(path: str | os.PathLike[str]) -> Path:
    """`path`. Raises: ValueError where it does not end in .html."""
    path = Path(path)
    if path.suffix not in (".html", ".htm"):
        raise ValueError(f"a page's path must end in .html; got {str(path)!r}.")
    return path


def _filled(data: dict[str, Any]) -> str:
    folder = resources.files(__package__ or __name__)
    parts = {name: (folder / f"page.{name}").read_text("utf-8") for name in ("html", "css", "js")}
    # "<" would let a name in the data end the script element.
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    template = string.Template(parts["html"])
    title = html.escape(data["title"])
    return template.substitute(title=title, css=parts["css"], js=parts["js"], data=text)
