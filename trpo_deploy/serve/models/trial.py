"""Try files in a child process, which may hang, crash or run out of memory in our place."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import IO, Any

from trpo_deploy.errors import ServeError
from trpo_deploy.serve.models.view import one_line
from trpo_deploy.serve.settings import Settings

MODULE = "trpo_deploy.serve.process.trial"
TRIALS = "trials"
"""Folder in the store with the file that is being tried."""

_START_S = 120
"""Time for the imports of the child, on a slow disk."""
_IDLE_S = 10
"""The child ends after this time without work."""


@dataclass(frozen=True)
class Candidate:
    """What to try."""

    name: str
    version: str
    """Version of the model; empty to derive it from the file's content."""
    onnx: str
    """Path of the ONNX file."""
    replaces: Sequence[str]
    """Content keys of what is served under the name now."""
    known: str | None
    """Content key of the last trial; the same content is not tried again."""


@dataclass(frozen=True)
class Outcome:
    """What came of a trial."""

    key: str | None = None
    """Content key, if the files were read."""
    version: str = ""
    """The version, if the content is in the store now."""
    error: str | None = None
    """Why it is not."""
    same: bool = False
    """Whether the content is that of the last trial. Then it was not tried."""


class TrialError(ServeError):
    """No trial can take place, whatever the file."""


class Trial:
    """A child process that tries one file after the other.

    Args:
        settings: Limits, and the store.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.model_store is not None
        self._settings = settings
        self._store = settings.model_store
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._replies: IO[bytes] | None = None
        self._used = 0.0

    def run(self, candidate: Candidate) -> Outcome:
        """Try one file. If it passes, it is in the store.

        Raises:
            TrialError: The child cannot be started.
        """
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._start()
        self._used = monotonic()
        key: str | None = None
        try:
            self._send(vars(candidate))
            reply = self._receive(self._settings.trial_seconds)
            if "read" in reply:
                key = reply["read"]
                reply = self._receive(self._settings.trial_seconds)
            return Outcome(**reply)
        except TimeoutError:
            self.close()
            limit = self._settings.trial_seconds
            return Outcome(key, error=f"its trial took longer than {limit:g} s")
        except (OSError, ValueError) as error:  # ValueError: no reply before the end
            return Outcome(key, error=f"its trial {self._end() or one_line(error)}")

    def close_if_idle(self) -> None:
        """End the child if it had no work for some time."""
        if self._process is not None and monotonic() - self._used > _IDLE_S:
            self.close()

    def kill(self) -> None:
        """Kill the child, from any thread; the trial in progress ends with an error."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the child now."""
        if self._process is not None:
            self._process.kill()
            self._end()
        for each in (self._replies, self._socket):
            if each is not None:
                each.close()
        self._process = self._socket = self._replies = None

    def _start(self) -> None:
        shutil.rmtree(self._store / TRIALS, ignore_errors=True)  # of a child that died
        self._socket, theirs = socket.socketpair()
        self._replies = self._socket.makefile("rb")
        environment = {**os.environ, **self._settings.to_environment()}
        environment.pop("PROMETHEUS_MULTIPROC_DIR", None)  # the metrics are those of workers
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    [sys.executable, "-m", MODULE, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                )
            self._receive(_START_S)
        except (OSError, ValueError) as error:
            self.close()
            raise TrialError(f"cannot try models, {MODULE} does not start: {error}") from error

    def _send(self, request: dict[str, object]) -> None:
        assert self._socket is not None
        self._socket.settimeout(self._settings.trial_seconds)
        self._socket.sendall(json.dumps(request).encode() + b"\n")

    def _receive(self, seconds: float) -> dict[str, Any]:
        assert self._socket is not None
        assert self._replies is not None
        self._socket.settimeout(seconds)
        value: dict[str, Any] = json.loads(self._replies.readline())
        return value

    def _end(self) -> str:
        """Wait for the end of the child, and say how it ended."""
        assert self._process is not None
        try:
            status = self._process.wait(5)
        except subprocess.TimeoutExpired:  # it waits for a device and cannot be killed
            return "cannot be ended"
        if status < 0:
            return f"ended with {signal.Signals(-status).name}"
        return f"ended with exit status {status}"
