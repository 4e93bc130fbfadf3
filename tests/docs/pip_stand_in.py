"""Stands in for ``pip install`` in the pages: checks what a line installs, and installs nothing.

Each requirement must be this project, with extras that it has (``trpo-deploy[video]``), or a
package that is installed here.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = "trpo-deploy"


def problem(text: str) -> str | None:
    """Why a requirement cannot be what the reader should install, or ``None``."""
    requirement = Requirement(PROJECT + text[1:] if text.startswith(".") else text)
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return f"{text}: not installed here"
    known = metadata(requirement.name).get_all("Provides-Extra") or []
    unknown = requirement.extras - set(known)
    if unknown:
        return f"{text}: unknown extras {sorted(unknown)}, known are {known}"
    if not requirement.specifier.contains(installed, prereleases=True):
        return f"{text}: {installed} is installed here"
    return None


def main() -> None:
    """Exit with the problems of all requirements, or with 0."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-c", "--constraint", type=Path, action="append", default=[])
    parser.add_argument("-e", "--editable", action="append", default=[])
    parser.add_argument("-U", "--upgrade", action="store_true")
    parser.add_argument("--extra-index-url", "--index-url")
    parser.add_argument("requirements", nargs="*")
    arguments = parser.parse_intermixed_args()
    found = [f"{path}: no such file" for path in arguments.constraint if not path.is_file()]
    found += filter(None, map(problem, [*arguments.editable, *arguments.requirements]))
    sys.exit("\n".join(found) or None)


if __name__ == "__main__":
    main()
