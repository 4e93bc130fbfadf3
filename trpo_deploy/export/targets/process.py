"""Run a compiler or an interpreter of this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

from trpo_deploy.errors import ExportError

_SECONDS = 600  # for the largest networks on a busy machine


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder and wait for its end.

    Raises:
        ExportError: It cannot be started, or takes too long.
    """
    try:
        return subprocess.run(  # noqa: S603 - the program that the user chose
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ExportError(f"{command[0]} cannot be run ({error})") from error
