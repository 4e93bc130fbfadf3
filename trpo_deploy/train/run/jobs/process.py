"""A training run as a process that stops with this one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from tempfile import TemporaryFile

from trpo_deploy.errors import ModelDirError
from trpo_deploy.files.model_dir import ModelDir

_STOP_S = 60.0
"""Time to write a checkpoint after :meth:`TrainProcess.stop`."""
_OUTPUT_BYTES = 10_000
"""The end of what a run prints, in which its error is."""


class TrainProcess:
    """Runs ``trpo-deploy train`` on a model folder, from its checkpoint if there is one.

    Args:
        env_id: The environment.
        folder: Model folder of the run.
        options: Further options of ``trpo-deploy train``.
    """

    def __init__(self, env_id: str, folder: ModelDir, options: Sequence[str]) -> None:
        self.folder = folder
        self._words = ["train", env_id, "-o", str(folder.root), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr = TemporaryFile()  # noqa: SIM115 - open as long as the process
        self._stopped = False

    def poll(self) -> int | None:
        """Start the process if it can start; its exit code once it has ended, else None.

        A process whose parent was killed may still be writing its last checkpoint into the folder.
        """
        if self._process is None and not self._stopped and not _is_written(self.folder):
            self._start()
        return None if self._process is None else self._process.poll()

    def _start(self) -> None:
        resume = ["--resume"] if self.folder.config.is_file() else []
        module = "trpo_deploy.train.run.jobs.lifeline"
        options = ("--no-export", "--no-progress", *resume)
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", module, *self._words, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            # Else Ctrl-C in a terminal and stop() would interrupt it twice.
            start_new_session=True,
        )

    @property
    def error(self) -> str:
        """The error message of a process that has failed."""
        self._stderr.seek(0, 2)
        self._stderr.seek(max(0, self._stderr.tell() - _OUTPUT_BYTES))
        text = self._stderr.read().decode(errors="replace").strip()
        assert self._process is not None
        lines = text.splitlines() or [f"ended with {self._process.returncode}"]
        return lines[-1].removeprefix("error: ")

    def stop(self) -> None:
        """Ask the process to write its checkpoint and end."""
        self._stopped = True
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def close(self) -> None:
        """Stop the process, and wait until it has ended."""
        self.stop()
        if self._process is not None:
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._stderr.close()


def _is_written(folder: ModelDir) -> bool:
    """Whether a run is writing into the folder."""
    if not folder.root.is_dir():
        return False
    try:
        with folder.claimed():
            return False
    except ModelDirError:
        return True
