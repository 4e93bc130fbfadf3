"""Logs of all processes: one line for each record, as text or as a JSON object."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from trpo_deploy.serve.settings import LogFormat

_MAX_A_MINUTE = 10
"""Warnings and errors a minute of one kind: exceptions of one place, or equal messages."""
_MAX_KINDS = 1000
_MAX_TEXT = 500
"""Characters of an exception's message; it may quote a client."""
_NO_ERROR = "ASGI callable returned without completing handshake."
"""uvicorn's message about each WebSocket that was refused with an HTTP answer."""
_LEVELS = {
    "": logging.WARNING,
    "trpo_deploy": logging.INFO,
    "bentoml": logging.WARNING,
    "bentoml.access": logging.INFO,
    # They warn about each client that sends invalid HTTP or breaks off a WebSocket.
    "uvicorn.error": logging.ERROR,
    "websockets": logging.ERROR,
}


def configure_logs(log_format: LogFormat, process: str) -> None:
    """Write all records of this process to the standard error stream.

    Args:
        log_format: ``text`` or ``json``.
        process: Name of this process in each line, such as ``worker 1``.
    """
    logging.captureWarnings(True)
    for name in logging.root.manager.loggerDict:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    logging.root.handlers = [_handler(log_format, process)]
    for name, level in _LEVELS.items():
        logging.getLogger(name).setLevel(level)


@contextmanager
def supervisor_logs(log_format: LogFormat) -> Iterator[None]:
    """Write the records of trpo-deploy. Those of other libraries are left to the caller."""
    logger = logging.getLogger("trpo_deploy")
    before = logger.level, logger.propagate
    handler = _handler(log_format, "supervisor")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def _handler(log_format: LogFormat, process: str) -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(_json_formatter(process) if log_format == "json" else _Text(process))
    handler.addFilter(OneLine())
    return handler


class OneLine(logging.Filter):
    """Turns a traceback into the place of the error, and drops errors that are repeated often.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._minutes: dict[tuple[object, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a record, which is changed."""
        message = kind = record.getMessage().strip()
        if message == _NO_ERROR:
            return False
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            place = _last_frame(error.__traceback__)
            kind = f"{type(error).__name__} {place}"
            text = "".join(traceback.format_exception_only(error)).strip()[:_MAX_TEXT]
            message = f"{message}: {text} ({place})"
        record.exc_info = record.exc_text = record.stack_info = None
        if record.levelno >= logging.WARNING:
            count = self._count((record.name, record.lineno, kind))
            if count > _MAX_A_MINUTE:
                return False
            if count == _MAX_A_MINUTE:
                message += " (more of these are not logged for a minute)"
        # A line stays a line whatever a client or a file puts into a message.
        record.msg, record.args = " | ".join(message.splitlines()), None
        return True

    def _count(self, kind: tuple[object, ...]) -> int:
        """How many records of this kind there were in this minute, with this one."""
        now = self._clock()
        if len(self._minutes) >= _MAX_KINDS:
            self._minutes.clear()
        since, count = self._minutes.get(kind, (now, 0))
        if now - since >= 60:
            since, count = now, 0
        self._minutes[kind] = since, count + 1
        return count + 1


class _Text(logging.Formatter):
    default_msec_format = "%s.%03dZ"
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    converter = staticmethod(time.gmtime)

    def __init__(self, process: str) -> None:
        super().__init__(
            f"%(asctime)s %(levelname)s {process} (pid %(process)d) %(name)s: %(message)s"
        )


def _json_formatter(process: str) -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    return JsonFormatter(
        ["levelname", "name", "message", "process"],
        timestamp="time",
        rename_fields={"levelname": "level", "name": "logger", "process": "pid"},
        static_fields={"worker": process},
    )


def _last_frame(trace: TracebackType | None) -> str:
    """Where an exception was raised: ``predict.py:12 in read``."""
    frames = traceback.extract_tb(trace)
    if not frames:
        return "no place"
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}"
