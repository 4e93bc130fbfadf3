"""Open the files of a model without trusting what they are."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TypeAlias

from trpo_deploy.errors import ServeError
from trpo_deploy.files.certificate import certificate_path
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.signature import signature_path

_COMPANIONS = (certificate_path, signature_path)
"""Paths of the files that belong to an ONNX file, if they exist."""
_MAX_COMPANION_BYTES = 16 * 1024 * 1024
"""A thousand times the size of our certificates."""
_RACY_NS = 2_000_000_000
"""File systems round times, FAT to two seconds: a second change in that time may not show."""

FileStamp: TypeAlias = tuple[tuple[int, ...], ...]
"""Device, inode, size and times (ns) of an ONNX file and of those that belong to it."""


def read_source(onnx: Path, limit: int) -> dict[str, bytes]:
    """Read an ONNX file and those that belong to it.

    Args:
        onnx: The file.
        limit: Maximum size of the ONNX file, bytes.

    Returns:
        Contents by the names that the files have in a model folder.

    Raises:
        ServeError: A file cannot be read, is not a regular file or is too large.
    """
    stored = ModelDir(Path()).onnx
    files = {stored.name: _read(onnx, limit)}
    for path_of in _COMPANIONS:
        if os.path.lexists(path_of(onnx)):
            files[path_of(stored).name] = _read(path_of(onnx), _MAX_COMPANION_BYTES)
    return files


def _read(path: Path, limit: int) -> bytes:
    try:
        # Before the file is opened: opening some devices has an effect, and a FIFO would wait.
        _check_kind(path, os.stat(path), limit)
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            _check_kind(path, os.fstat(handle), limit)
            content = file.read(limit + 1)
    except OSError as error:
        raise ServeError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > limit:
        raise ServeError(f"{path} grew beyond {limit} bytes while it was read")
    return content


def _check_kind(path: Path, status: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "a device")
        raise ServeError(f"cannot read {path}: it is {kind}, expected a regular file")
    if status.st_size > limit:
        raise ServeError(
            f"{path} has {status.st_size} bytes, expected at most {limit}; the limit of a policy "
            "is TRPO_DEPLOY_MAX_MODEL_BYTES"
        )


def file_stamp(onnx: Path) -> FileStamp:
    """By what a change of the files is noticed. Replacing a link on the way changes it, too."""
    return (_stamp(onnx), *(_stamp(path_of(onnx)) for path_of in _COMPANIONS))


def is_recent(stamp: FileStamp, now_ns: int) -> bool:
    """Whether a file may have changed again without a new stamp."""
    return any(file[-1] > now_ns - _RACY_NS for file in stamp if file)


def _stamp(path: Path) -> tuple[int, ...]:
    """Empty if there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    # The change time is last: unlike the modification time, no program can set it.
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return (status.st_dev, status.st_ino, status.st_size, *times)
