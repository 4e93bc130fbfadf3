"""Atomic writes: a file is written completely or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

from trpo_deploy.errors import ModelDirError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path, and rename it to ``path`` if the block succeeds.

    A reader sees the old file or the complete new one. After an error the temporary file is
    removed.

    Raises:
        ModelDirError: The file cannot be written.
    """
    if path.is_dir():  # before the block spends minutes on what cannot be renamed to it
        raise ModelDirError(f"cannot write {path}: it is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise ModelDirError(f"cannot write {path}: {folder_problem(path.parent, error)}") from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("r+b") as file:  # Windows flushes only files open for writing
            os.fsync(file.fileno())
        # mkstemp makes files that only the owner can read; give this one the usual permissions.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise ModelDirError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def folder_problem(folder: Path, error: OSError) -> str | None:
    """Why a folder could not be made or written to."""
    for each in (folder, *folder.parents):
        if os.path.lexists(each) and not os.path.isdir(each):
            return f"{each} is a file, not a folder"
    return error.strerror


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write a file; on an error the old one stays.

    Raises:
        ModelDirError: The file cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def atomic_write_all(files: Mapping[Path, bytes | str]) -> None:
    """Write all files, or none of them; the first one is renamed last.

    Raises:
        ModelDirError: A file cannot be written.
    """
    with ExitStack() as stack:
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            stack.enter_context(atomic_path(path)).write_bytes(data)


def append(path: Path, text: str) -> None:
    """Append text to a file, completely or not at all.

    Raises:
        ModelDirError: The file cannot be written.
    """
    try:
        # Unbuffered: a buffer would be flushed again after the file was truncated.
        with path.open("ab", buffering=0) as file:
            size, data = file.tell(), text.encode()
            if file.write(data) != len(data):
                file.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise ModelDirError(f"cannot write {path}: {error.strerror}") from error


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    return sha256(path.read_bytes()).hexdigest()
