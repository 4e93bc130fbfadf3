"""Where Optuna keeps a study: a journal file, or a database."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import (
    JournalFileBackend,
    JournalFileOpenLock,
    JournalFileSymlinkLock,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from trpo_deploy.errors import ConfigError, TrainingError


def open_storage(storage: str) -> BaseStorage:
    """Open a storage of Optuna, or make a new one.

    Args:
        storage: Path of a journal file, or URL of a database as SQLAlchemy takes it.

    Raises:
        ConfigError: It cannot be opened.
    """
    if "://" not in storage:
        return _open_journal(Path(storage))
    if storage.startswith("redis"):
        raise ConfigError(
            f"--storage {storage.partition('://')[0]}://...: Redis is not supported; give the path "
            "of a journal file, or the URL of a database such as sqlite:///study.db"
        )
    try:
        return RDBStorage(storage)
    # RuntimeError: the database has tables of another version of Optuna.
    except (SQLAlchemyError, OptunaError, ImportError, RuntimeError, ValueError) as error:
        raise ConfigError(_cannot_open(storage, error)) from error


@contextmanager
def storage_errors(hint: str) -> Iterator[None]:
    """Raise failures of a storage in the block as one clear line.

    Raises:
        TrainingError: The storage failed.
    """
    try:
        yield
    except (SQLAlchemyError, OptunaError) as error:
        raise TrainingError(f"the storage of the study failed: {_reason(error)}; {hint}") from error


def _open_journal(path: Path) -> BaseStorage:
    try:
        lock_type = JournalFileOpenLock if sys.platform == "win32" else JournalFileSymlinkLock
        backend = JournalFileBackend(str(path), lock_type(str(path)))
        _mend_end(path, lock_type(str(path)))
        return JournalStorage(backend)
    except OSError as error:
        raise ConfigError(
            f"cannot open the journal {path}: {error.strerror}; give the path of a file in an "
            "existing folder with --storage, or the URL of a database such as sqlite:///study.db"
        ) from error
    # Optuna does not check what it reads.
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise ConfigError(
            f"{path} is not a journal of Optuna, or is damaged ({_reason(error)}); give another "
            "one with --storage"
        ) from error


def _mend_end(path: Path, lock: JournalFileSymlinkLock | JournalFileOpenLock) -> None:
    """Remove a last line without its end, which a full disk or a killed process leaves.

    What Optuna appends next would otherwise make it a damaged line in the middle.
    """
    lock.acquire()
    try:
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            if file.read(1) not in (b"", b"\n"):
                file.seek(0)
                kept = file.read().rfind(b"\n") + 1
                if kept or size < _FIRST_LINE_BYTES:
                    file.truncate(kept)
    finally:
        lock.release()


_FIRST_LINE_BYTES = 1000
"""A file with a longer first line without its end is no journal, and is left alone."""


def _cannot_open(url: str, error: Exception) -> str:
    """The message for a database that cannot be opened, without its password."""
    reason = _reason(error)
    try:
        parsed = make_url(url)
        shown = parsed.render_as_string(hide_password=True)
        if parsed.password:
            reason = reason.replace(str(parsed.password), "***")
    except (SQLAlchemyError, ValueError):
        shown = url.partition("://")[0] + "://..."
    return (
        f"cannot open the storage {shown}: {reason}; check the URL, and that the database can be "
        "reached from here"
    )


def _reason(error: BaseException) -> str:
    """The first line of the error that a driver raised."""
    original = getattr(error, "orig", None) or error.__cause__ or error
    lines = str(original).strip().splitlines() or [type(original).__name__]
    return lines[0].rstrip(".")
