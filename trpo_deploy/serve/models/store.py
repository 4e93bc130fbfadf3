"""The folder in which models are published."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "trpo-deploy-models-"
_YOUNG_S = 60
"""A younger store may not be locked yet."""


@contextmanager
def new_store() -> Iterator[Path]:
    """A store that only this user can read, removed at the end of the block.

    Stores of processes that were killed are removed, too. A living process has its store locked;
    the lock ends with the process.
    """
    _remove_abandoned()
    store = Path(tempfile.mkdtemp(prefix=_PREFIX))
    handle = os.open(store, os.O_RDONLY)
    try:
        with suppress(OSError):  # the file system does not support locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield store
    finally:
        os.close(handle)
        shutil.rmtree(store, ignore_errors=True)


def _remove_abandoned() -> None:
    for store in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it belongs to another user, or is locked
            if time.time() - store.stat().st_mtime < _YOUNG_S:
                continue
            handle = os.open(store, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(store, ignore_errors=True)
            finally:
                os.close(handle)
