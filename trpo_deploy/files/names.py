"""Names of the files that belong to a policy.

A name may contain dots, as in ``ppo_lr0.0003``, to which Stable-Baselines3 adds no ``.zip``. Only
the known endings are removed; ``Path.stem`` and ``Path.with_suffix`` would cut the number.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from trpo_deploy.errors import ModelDirError

_ENDINGS = (".zip", ".onnx")


def stem(path: Path) -> str:
    """The file's name without ``.zip`` or ``.onnx``."""
    for ending in _ENDINGS:
        if path.name.endswith(ending) and path.name != ending:
            return path.name.removesuffix(ending)
    return path.name


def beside(path: Path, ending: str) -> Path:
    """A file in the same folder with the same stem and another ending."""
    return path.with_name(stem(path) + ending)


def check_names(paths: Iterable[Path]) -> None:
    """Check that files of these names can be written and named in text.

    Raises:
        ModelDirError: A name is not UTF-8, or too long for a file.
    """
    for path in paths:
        try:
            size = len(path.name.encode())
        except UnicodeEncodeError as error:
            shown = os.fsencode(path).decode(errors="backslashreplace")
            raise ModelDirError(
                f"the name {shown} is not UTF-8, so no file can refer to it; rename it"
            ) from error
        if size > MAX_NAME_BYTES:
            raise ModelDirError(
                f"the name {path.name} has {size} bytes, more than the {MAX_NAME_BYTES} that fit; "
                "rename the policy, or give a shorter name with -o"
            )


MAX_NAME_BYTES = 255 - len("..12345678.tmp")
"""Most file systems take 255 bytes, and a file is written under a temporary name first."""
