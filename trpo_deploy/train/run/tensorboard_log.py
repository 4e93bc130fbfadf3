"""The training log as TensorBoard files."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import TensorBoardOutputFormat

from trpo_deploy.errors import MissingExtraError, ModelDirError
from trpo_deploy.train.run.optional_log import OptionalLog

_MIN_FREE_BYTES = 1 << 20
"""Stop below this: TensorBoard writes in a thread, which on a full disk prints a traceback."""


def tensorboard_log(folder: Path, note: Callable[[str], None]) -> OptionalLog:
    """SB3's log for TensorBoard; the run continues without it when the disk is full.

    Args:
        folder: Folder to write to.
        note: Called once, when the files can no longer be written.

    Raises:
        MissingExtraError: TensorBoard is not installed.
        ModelDirError: The folder cannot be made.
    """
    if find_spec("tensorboard") is None:
        raise MissingExtraError("--tensorboard needs tensorboard; run: pip install tensorboard")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = _Checked(folder)
    except OSError as error:
        raise ModelDirError(f"cannot write to {folder}: {error.strerror}") from error

    def explain(error: Exception) -> str:
        reason = getattr(error, "strerror", None) or error
        return f"TensorBoard's log cannot be written to {folder}: {reason}"

    return OptionalLog(log, explain, note)


class _Checked(TensorBoardOutputFormat):
    """Checks that there is space before it writes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self._folder = folder

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        self._check_space()
        super().write(key_values, key_excluded, step)

    def close(self) -> None:
        self._check_space()
        super().close()

    def _check_space(self) -> None:
        if shutil.disk_usage(self._folder).free < _MIN_FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
