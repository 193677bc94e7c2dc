"""Writes TeX formulas as MathML, which browsers show by themselves: no script, no network.

Where a computer has no font for mathematics, browsers leave subscripts on the line. So one comes
with the pages: STIX Two Math, under the SIL Open Font License, from the package ziamath.
"""

import importlib.util
import re
import shutil
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

UNKNOWN = re.compile(r"<m[ion][^>]*>(&|\\\w*)<")
"""What the converter leaves where it knows a command or an environment as little as its &."""

SIGNS = {"langle": "⟨", "rangle": "⟩", "lvert": "|", "rvert": "|"}
"""Names that the converter does not know after \\big and \\Big."""

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("build-finished", copy_font)
    return {"parallel_read_safe": True}


def copy_font(app: Sphinx, exception: Exception | None) -> None:
    """Lay the font where `pages.css` looks for it."""
    package = importlib.util.find_spec("ziamath")
    if exception is None and package is not None and package.origin is not None:
        font = Path(package.origin).parent / "fonts" / "STIXTwoMath-Regular.ttf"
        shutil.copy(font, app.outdir / "_static")


def inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(mathml(node, node.astext(), "inline"))
    raise nodes.SkipNode


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="formula"))
    self.body.append(mathml(node, aligned(node.astext()), "block"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({node["number"]})</span>')
    self.body.append("</div>\n")
    raise nodes.SkipNode


def mathml(node: nodes.Element, formula: str, display: str) -> str:
    for name, sign in SIGNS.items():
        formula = re.sub(rf"\\{name}(?![a-zA-Z])", sign, formula)
    written = convert(formula, display=display)
    if found := UNKNOWN.search(written):
        logger.warning(f"MathML has no {found[1]} of {formula!r}", location=node)
    return written


def aligned(formula: str) -> str:
    """Lines between dollars are aligned at their &, as Sphinx does for LaTeX. The converter knows
    the environment by its name outside of dollars, align*."""
    if "\\\\" in formula and r"\begin" not in formula:
        formula = rf"\begin{{aligned}}{formula}\end{{aligned}}"
    return formula.replace("{aligned}", "{align*}")
