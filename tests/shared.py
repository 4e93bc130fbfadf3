"""Folders that the workers of pytest-xdist share: the first one that needs a folder fills it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def shared_folder(
    factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], object]
) -> Path:
    """A folder that no test changes.

    Args:
        factory: The fixture of a worker.
        name: The folder's name.
        fill: Called with the path of the folder, which it makes.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of the folders of all workers
    folder, filled = root / name, root / f"{name}.filled"
    with FileLock(root / f"{name}.lock"):
        if not filled.exists():
            fill(folder)
            filled.touch()
    return folder
