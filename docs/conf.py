"""How Sphinx builds these pages: `nox -s docs`. They work from disk, without a network."""

import importlib.metadata
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_extensions"))

project = "learndyn"
smartquotes = False
author = "The learndyn developers"
copyright = "the learndyn developers"
release = importlib.metadata.version("learndyn")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "docstrings",
    "formulas",
    "names",
    "neighbours",
    "pictures",
    "primer",
    "tutorial",
]
exclude_patterns = ["_extensions"]

# The pages are Markdown; the notebooks are those of `notebooks/`.
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence", "attrs_inline"]
myst_heading_anchors = 4
# The pages of the primer run where their code has changed; the extension `tutorial` runs the rest.
nb_execution_mode = "cache"
nb_execution_excludepatterns = ["tutorial/*"]
nb_execution_cache_path = str(DOCS.parent / "build" / "primer")
nb_execution_timeout = 300  # seconds for a cell; the slowest takes ten
nb_execution_raise_on_error = True
nb_merge_streams = True

# Docstrings have Google's sections, and one more.
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Source", "returns_style")]
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
maximum_signature_line_length = 80
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "learndyn"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_search_summary = False  # a page from disk may not fetch others
html_show_sourcelink = False
html_math_renderer = "mathml"
html_theme_options = {
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 9,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}  # dark where the reader's system is
html_sidebars = {"index": [], "quickstart": [], "gallery": []}  # pages without a section
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
