"""The directive `atlas-picture`: a figure of the atlas, where `nox -s atlas` has left one.

Elsewhere it is nothing, so that the gallery is built without pictures as well.
"""

import shutil
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parent.parent.parent
MADE = ROOT / "build" / "atlas"
FOLDER = "pictures"
"""In the docs' folder, since Sphinx shows no files from outside of it; git ignores it."""

WIDTH = "36rem"
"""A thumbnail on a desktop, which is behind it in full; on a phone it is as wide as the screen."""


class AtlasPicture(SphinxDirective):
    """A thumbnail of the entry that the argument names, and behind it the whole picture."""

    required_arguments = 1
    option_spec: ClassVar = {"alt": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        made = MADE / f"{self.arguments[0]}.png"
        self.env.note_dependency(str(made))
        if not made.exists():
            return []
        folder = Path(self.env.srcdir) / FOLDER
        folder.mkdir(exist_ok=True)
        shutil.copy(made, folder)
        alt = self.options.get("alt", self.arguments[0])
        image = nodes.image(uri=f"/{FOLDER}/{made.name}", alt=alt, width=WIDTH, loading="lazy")
        # Sphinx puts all images into one folder, next to the gallery's page.
        whole = nodes.reference("", "", image, refuri=f"_images/{made.name}")
        return [nodes.paragraph("", "", whole)]


def setup(app: Sphinx) -> dict:
    app.add_directive("atlas-picture", AtlasPicture)
    return {"parallel_read_safe": True}
