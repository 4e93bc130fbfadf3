"""Configuration of the documentation site. ``make docs`` builds it into ``build/site``."""

from __future__ import annotations

import sys
from pathlib import Path

import tomllib
from sphinx.application import Sphinx

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_extensions"), str(DOCS.parent)]

from trpo_deploy import __version__  # noqa: E402

URLS = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]["urls"]

project = "trpo-deploy"
author = "The trpo-deploy authors"
version = release = __version__
extensions = [
    "generated_reference",
    "myst_parser",
    "repository_links",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["live"]
highlight_language = "text"
repository = URLS["Repository"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # links to headings, with GitHub's anchors

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

html_theme = "furo"
html_title = "trpo-deploy"
html_baseurl = URLS["Documentation"]
html_show_copyright = False
html_copy_source = False
html_theme_options = {
    "source_repository": repository,
    "source_branch": "main",
    "source_directory": "docs/",
}


def keep_colons(
    _app: Sphinx, kind: str, _name: str, _value: object, _options: object, lines: list[str]
) -> None:
    """Put an empty comment before the docstring of an attribute.

    In its first line, napoleon reads ``text: more`` as a type with a description.
    """
    if kind in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # napoleon has 500
