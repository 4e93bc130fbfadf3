"""Ctrl-C: while modules are imported, and while a command works."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from trpo_deploy.cli.output import say

_POLL_S = 0.02
_IMPORT = "<frozen importlib._bootstrap>"
"""File name in the code of Python's import functions."""


class InterruptAfterImports:
    """Handler of SIGINT that raises ``KeyboardInterrupt``, once a running import has ended.

    Within an import the interrupt can be lost, leave a module half-made or crash the process, since
    compiled modules do not expect it. Pressing Ctrl-C a second time takes effect at once.
    """

    def __init__(self) -> None:
        self._is_waiting = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal; called in the main thread."""
        if self._is_waiting or not _is_importing(frame):
            self._is_waiting = False
            raise KeyboardInterrupt
        self._is_waiting = True
        threading.Thread(target=self._send_after_import, args=(number,), daemon=True).start()

    def _send_after_import(self, number: int) -> None:
        main = threading.main_thread().ident or 0
        while self._is_waiting and _is_importing(sys._current_frames().get(main)):
            time.sleep(_POLL_S)
        if self._is_waiting:
            os.kill(os.getpid(), number)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT:
            return True
        frame = frame.f_back
    return False


def install_interrupt_handler() -> None:
    """Handle SIGINT with :class:`InterruptAfterImports` from here on, unless it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, InterruptAfterImports())


@contextmanager
def stoppable(message: str) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM stop the block, with a message and exit code 130."""
    # Schedulers and container runtimes stop a process with SIGTERM.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        say(message)
        raise typer.Exit(130) from None
