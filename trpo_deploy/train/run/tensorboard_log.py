"""The log in TensorBoard's files."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter, TensorBoardOutputFormat

from trpo_deploy.errors import MissingExtraError, ModelDirError

_ROOM = 1 << 20
"""Bytes to leave on the disk: TensorBoard writes in a thread, which ends in a traceback on a full
one."""


class TensorBoardLog(KVWriter):
    """SB3's log for TensorBoard; a run does not end because there is no room for it any more.

    Args:
        folder: where the files go.
        note: called once, when they cannot be written any more.

    Raises:
        MissingExtraError: TensorBoard is not installed.
        ModelDirError: the folder cannot be made.
    """

    def __init__(self, folder: Path, note: Callable[[str], None]) -> None:
        if find_spec("tensorboard") is None:
            raise MissingExtraError("--tensorboard needs tensorboard; run: pip install tensorboard")
        self._folder, self._note = folder, note
        self._failed = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._format = TensorBoardOutputFormat(str(folder))
        except OSError as error:
            raise ModelDirError(f"cannot write to {folder}: {error.strerror}") from error

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        """Write a row."""
        self._unless_failed(self._format.write, key_values, key_excluded, step)

    def close(self) -> None:
        """Write what is left, and close the files."""
        self._unless_failed(self._format.close)

    def _unless_failed(self, function: Callable[..., None], *args: Any) -> None:
        if self._failed:
            return
        try:
            if shutil.disk_usage(self._folder).free < _ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            function(*args)
        except OSError as error:
            self._failed = True
            reason = error.strerror or error
            self._note(f"cannot write to {self._folder}: {reason}; going on without TensorBoard")
