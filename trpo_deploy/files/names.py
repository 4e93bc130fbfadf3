"""Names of the files that belong to a policy.

A name may contain dots, as in ``ppo_lr0.0003``, to which Stable-Baselines3 adds no ``.zip``. Only
the known endings are removed; ``Path.stem`` and ``Path.with_suffix`` would cut the number.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from trpo_deploy.errors import ModelDirError

ZIP, ONNX = ".zip", ".onnx"


def stem(path: Path, ending: str) -> str:
    """The file's name without an ending, which it may lack."""
    return path.name.removesuffix(ending) or path.name


def check_utf8(path: Path) -> None:
    """Check that the text of other files can contain the file's name.

    Raises:
        ModelDirError: The name is not UTF-8.
    """
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise ModelDirError(
            f"the name {shown} is not UTF-8, so no file can refer to it; rename it"
        ) from error


def check_names(paths: Iterable[Path]) -> None:
    """Check that files of these names can be written.

    Raises:
        ModelDirError: A name is not UTF-8, or too long.
    """
    for path in paths:
        check_utf8(path)
        size = len(path.name.encode())
        if size > MAX_NAME_BYTES:
            raise ModelDirError(
                f"the name {path.name} has {size} bytes, more than the {MAX_NAME_BYTES} that fit; "
                "give a shorter name with -o"
            )


MAX_NAME_BYTES = 255 - len("..12345678.tmp")
"""Most file systems take 255 bytes, and a file is written under a temporary name first."""


def folders_with(path: Path) -> str:
    """Advice for a file that a folder lacks and folders in it have; empty if none has it."""
    found = [str(each.parent) for each in sorted(path.parent.glob(f"*/{path.name}"))]
    if not found:
        return ""
    others = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    return f"give one of the folders in it: {', '.join(found[:3])}{others}"


def meant(path: Path, suffix: str) -> str:
    """A question for a path that does not exist, if it does with the suffix; else empty.

    SB3's ``model.save`` adds ``.zip`` without saying so.
    """
    completed = path.with_name(path.name + suffix) if path.name else path
    return f"did you mean {completed}? Otherwise " if completed.is_file() else ""
