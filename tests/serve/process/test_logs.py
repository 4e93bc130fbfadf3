"""Every line of every process is a record with a time, and clients cannot fill the log."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.runtime.policy_files import write_policy
from tests.serve.server import Server, running, wait_until
from trpo_deploy.serve.process.logs import OneLine

TEXT = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING|ERROR) "
    r"(supervisor|zygote|worker \d) \(pid \d+\) [\w.]+: \S.*"
)


def provoke(server: Server) -> None:
    """Do what could be logged: a changed model, a dead worker, refused and broken clients."""
    (worker,) = server.workers()
    os.kill(worker.pid, signal.SIGKILL)
    assert wait_until(lambda: server.has_replaced(worker, 1))
    for path in ("ws/unknown", "nowhere"):
        with pytest.raises(InvalidStatus):
            connect(f"{server.url.replace('http', 'ws')}/{path}")
    port = int(server.url.rsplit(":", 1)[1])
    for data in (b"nonsense\r\n\r\n", b"\x00" * 100, b"GET / HTTP/1.1\r\nupgrade: websocket\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(data)
    server.predict("text")


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_each_line_is_a_record(tmp_path: Path, log_format: str) -> None:
    write_policy(tmp_path / "models" / "cart" / "policy.onnx")
    with running(tmp_path / "models", log_format=log_format, access_log=True) as server:
        provoke(server)
        (tmp_path / "models" / "cart" / "policy.onnx").write_bytes(b"nothing")
        assert wait_until(
            lambda: server.metric('trpo_deploy_model_reloads_total{result="refused"}') > 0
        )
        lines = server.stop()
    assert lines.pop() == "stopped"
    text = "\n".join(lines)
    assert "Traceback" not in text
    assert "was killed by SIGKILL; replaced in" in text
    assert text.count("not an ONNX file") == 1, text
    assert text.count("path=/metrics") > 0
    assert not [line for line in lines if "ERROR" in line], text
    if log_format == "text":
        assert not [line for line in lines if not TEXT.fullmatch(line)], text
        return
    records = [json.loads(line) for line in lines]
    for record in records:
        assert set(record) >= {"time", "level", "logger", "message", "pid", "worker"}
        age = datetime.now(timezone.utc) - datetime.fromisoformat(record["time"])
        assert timedelta(0) <= age < timedelta(minutes=10)
    assert {"supervisor", "worker 1"} <= {record["worker"] for record in records}
    assert "bentoml.access" in {record["logger"] for record in records}


def record_of(message: str, error: Exception | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("name", logging.ERROR, "file.py", 12, message, None, info)


def test_an_exception_becomes_its_place() -> None:
    try:
        [].pop()
    except IndexError as error:
        record = record_of("answering /predict failed", error)
    assert OneLine().filter(record)
    assert record.exc_info is None
    assert re.fullmatch(
        r"answering /predict failed: IndexError: pop from empty list "
        r"\(test_logs.py:\d+ in test_an_exception_becomes_its_place\)",
        record.getMessage(),
    )


def test_what_a_client_sends_cannot_add_lines() -> None:
    record = record_of("bad header x\nERROR forged\r\nline")
    assert OneLine().filter(record)
    assert record.getMessage() == "bad header x | ERROR forged | line"


def test_repeated_records_are_bounded_for_a_minute() -> None:
    now = 0.0
    one_line = OneLine(lambda: now)
    errors = [ValueError(f"client {n}") for n in range(100)]
    assert sum(one_line.filter(record_of("answering failed", error)) for error in errors) == 10
    assert sum(one_line.filter(record_of("equal")) for _ in range(100)) == 10
    # Forty-eight bad files are forty-eight lines.
    assert all(one_line.filter(record_of(f"model {n}: bad")) for n in range(48))
    info = logging.LogRecord("name", logging.INFO, "file.py", 12, "equal", None, None)
    assert all(one_line.filter(info) for _ in range(100))
    now = 61.0
    assert one_line.filter(record_of("equal"))
