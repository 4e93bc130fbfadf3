"""Reference pages that are made from the code when the site is built."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

from trpo_deploy.serve.settings import ENV_PREFIX, Settings

INTERNAL = ("model_store",)  # set by the supervisor for its workers


def command_line() -> str:
    """The help of all commands, as Typer writes it."""
    typer = (sys.executable, "-m", "typer", "trpo_deploy.cli.app", "utils", "docs")
    output = subprocess.run(
        [*typer, "--name", "trpo-deploy"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    # Before the first command is their list, which the page's sidebar has.
    _, *commands = output.split("\n## ")
    return "".join(f"\n## {command}" for command in commands)


def settings() -> str:
    """The service's settings as a list, which fits a phone better than a table."""
    return "\n".join(["", *_settings()])


def _settings() -> Iterator[str]:
    analyzer = ModuleAnalyzer.for_module(Settings.__module__)
    comments = analyzer.find_attr_docs()
    for name, field in Settings.model_fields.items():
        if name in INTERNAL:
            continue
        default = json.dumps(field.default, default=str)
        shown = f" (`{default}`)" if field.default not in (None, ()) else ""
        meaning = " ".join(comments[Settings.__name__, name]).strip().replace("``", "`")
        yield f"- `{ENV_PREFIX}{name.upper()}`{shown}: {meaning}"


INSERTED = {"reference/command-line": command_line, "reference/settings": settings}
"""Page -> what is appended to it."""


def append(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Append to a page what is made from the code."""
    if docname in INSERTED:
        source[0] += INSERTED[docname]()


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", append)
    return {"parallel_read_safe": True}
