"""Temporary folders that do not outlive their process for long, even if it is killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_YOUNG_S = 60
"""A younger folder may not be locked yet."""


@contextmanager
def locked_folder(prefix: str, parent: Path) -> Iterator[Path]:
    """A folder that only this user can read, removed at the end of the block.

    Folders with the prefix of processes that were killed are removed, too. A living process has
    its folder locked; the lock ends with the process.
    """
    _remove_abandoned(prefix, parent)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # the file system does not support locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(prefix: str, parent: Path) -> None:
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):  # it belongs to another user, or is locked
            if time.time() - folder.stat().st_mtime < _YOUNG_S:
                continue
            handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)
