"""Links that leave ``docs``, such as ``../examples/robot``, lead to the repository on the site."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

LINK = re.compile(r"\]\((?P<path>\.\./[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")

logger = logging.getLogger(__name__)


def point_to_repository(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace links to files outside ``docs``. One to a missing file is a warning."""
    docs = Path(app.srcdir)

    def replaced(link: re.Match[str]) -> str:
        path = Path(os.path.normpath((docs / docname).parent / link["path"]))
        if path.is_relative_to(docs):
            return link[0]
        if not path.exists():
            logger.warning("no such file: %s", link["path"], location=docname)
        kind = "tree" if path.is_dir() else "blob"
        inside = path.relative_to(docs.parent).as_posix()
        return f"]({app.config.repository}/{kind}/main/{inside}{link['anchor'] or ''})"

    source[0] = LINK.sub(replaced, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_config_value("repository", None, "env", [str])
    app.connect("source-read", point_to_repository)
    return {"parallel_read_safe": True}
