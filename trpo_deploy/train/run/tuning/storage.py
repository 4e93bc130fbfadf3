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
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from trpo_deploy.errors import ConfigError, TrainingError

_EXPECTED = (
    "give the path of a journal file in an existing folder, or the URL of a database such as "
    "sqlite:///study.db"
)
_STARTED_WITH = "give the --storage that the study was started with"
_ENTRY = b'{"op_code":'
"""The beginning of each line of a journal."""


def open_storage(storage: str, *, new: bool) -> BaseStorage:
    """Open a storage of Optuna.

    Args:
        storage: Path of a journal file, or URL of a database as SQLAlchemy takes it.
        new: Make the file or the tables if there are none.

    Raises:
        ConfigError: It cannot be opened, or does not exist.
    """
    if "://" not in storage:
        return _open_journal(Path(storage), new=new)
    with _database_errors(storage):
        _check_file(make_url(storage), new=new)
        return RDBStorage(storage, skip_table_creation=not new)


def check_storage(storage: str) -> None:
    """Check that a storage can be reached, without making tables in a database.

    Two processes that make the tables at once disturb one another.

    Raises:
        ConfigError: It cannot be reached.
    """
    if "://" not in storage:
        _open_journal(Path(storage), new=True)
        return
    with _database_errors(storage):
        _check_file(make_url(storage), new=True)
        engine = create_engine(storage)
        try:
            inspect(engine).get_table_names()
        finally:
            engine.dispose()


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


@contextmanager
def _database_errors(url: str) -> Iterator[None]:
    if url.startswith("redis"):
        raise ConfigError(f"--storage: Redis is not supported; {_EXPECTED}")
    try:
        yield
    # RuntimeError: the database has tables of another version of Optuna.
    except (SQLAlchemyError, OptunaError, ImportError, RuntimeError, ValueError) as error:
        raise ConfigError(_cannot_open(url, error)) from error


def _check_file(url: URL, *, new: bool) -> None:
    """Check the file of an SQLite database, which SQLite would make."""
    if url.get_backend_name() != "sqlite":
        return
    if url.database in (None, "", ":memory:"):
        raise ConfigError(f"--storage {url}: a database in memory is lost at the end; {_EXPECTED}")
    if not (new or Path(str(url.database)).is_file()):
        raise ConfigError(f"the database {url.database} does not exist; {_STARTED_WITH}")


def _open_journal(path: Path, *, new: bool) -> BaseStorage:
    if not (new or path.is_file()):
        raise ConfigError(f"the journal {path} does not exist; {_STARTED_WITH}")
    lock_type = JournalFileOpenLock if sys.platform == "win32" else JournalFileSymlinkLock
    try:
        lock = lock_type(str(path))
        storage = JournalStorage(JournalFileBackend(str(path), lock))
        if _is_cut(path):  # else without the lock, so that a study can be read by others
            lock.acquire()
            try:
                _mend_end(path)
            finally:
                lock.release()
        return storage
    except OSError as error:
        raise ConfigError(
            f"cannot open the journal {path}: {error.strerror}; {_EXPECTED}"
        ) from error
    # Optuna does not check what it reads.
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise ConfigError(
            f"{path} is not a journal of Optuna, or is damaged ({_reason(error)}); {_EXPECTED}"
        ) from error


def _is_cut(path: Path) -> bool:
    """Whether the last line has no end, perhaps because it is being written."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read(1) not in (b"", b"\n")


def _mend_end(path: Path) -> None:
    """Remove a last line without its end, which a full disk or a killed process leaves.

    What Optuna appends next would otherwise make it a damaged line in the middle.

    Raises:
        ValueError: The last line is not the beginning of an entry.
    """
    with path.open("r+b") as file:
        content = file.read()
        start = content.rfind(b"\n") + 1
        last = content[start:]
        if not _ENTRY.startswith(last[: len(_ENTRY)]):
            raise ValueError("its last line is not an entry")
        if last:
            file.truncate(start)


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
    advice = "check the URL, and that the database can be reached from here"
    for each in (error, error.__cause__):
        if isinstance(each, ModuleNotFoundError):
            advice = f"install the database's driver, the package of the module {each.name}"
    return f"cannot open the storage {shown}: {reason}; {advice}"


def _reason(error: BaseException) -> str:
    """The first line of the error that a driver raised."""
    original = getattr(error, "orig", None) or error.__cause__ or error
    lines = str(original).strip().splitlines() or [type(original).__name__]
    return lines[0].rstrip(".")
