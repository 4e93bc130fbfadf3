"""The training log as TensorBoard files."""

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

_MIN_FREE_BYTES = 1 << 20
"""Stop below this: TensorBoard writes in a thread, which on a full disk prints a traceback."""


class TensorBoardLog(KVWriter):
    """SB3's log for TensorBoard; the run continues without it when the disk is full.

    Args:
        folder: Folder to write to.
        note: Called once, when the files can no longer be written.

    Raises:
        MissingExtraError: TensorBoard is not installed.
        ModelDirError: The folder cannot be made.
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
        """Flush and close the files."""
        self._unless_failed(self._format.close)

    def _unless_failed(self, function: Callable[..., None], *args: Any) -> None:
        if self._failed:
            return
        try:
            if shutil.disk_usage(self._folder).free < _MIN_FREE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            function(*args)
        except OSError as error:
            self._failed = True
            reason = error.strerror or error
            self._note(
                f"cannot write to {self._folder}: {reason}; training continues without TensorBoard"
            )
