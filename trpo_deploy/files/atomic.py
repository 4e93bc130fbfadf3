"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from trpo_deploy.errors import ModelDirError

if sys.platform != "win32":
    pass


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its name once the block has ended well.

    A reader sees the old file or the whole new one; after an error nothing new is left.

    Raises:
        ModelDirError: the target cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise ModelDirError(f"cannot write {path}: {error.strerror}") from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes private files; a model is as readable as the user's other files.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise ModelDirError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write a whole file, or leave what was there."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def append(path: Path, text: str) -> None:
    """Add to a file, whole or not at all.

    Raises:
        ModelDirError: it cannot be written.
    """
    try:
        # Without a buffer, which would be written once more before the file is cut back.
        with path.open("ab", buffering=0) as file:
            size, data = file.tell(), text.encode()
            if file.write(data) != len(data):
                file.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise ModelDirError(f"cannot write {path}: {error.strerror}") from error


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    return sha256(path.read_bytes()).hexdigest()
