"""A page in headless Chromium, driven over the DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
"""Draw with the CPU, where ``--disable-gpu`` alone leaves a page without WebGL."""
_START_S = 120
_CALL_S = 240


class Page:
    """One page of a browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self.events: list[dict[str, Any]] = []
        """What the browser told since it was asked to, with :meth:`observe`."""
        self._socket = socket
        self._id = 0

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        arguments = {"expression": script, "returnByValue": True, "awaitPromise": True}
        result = self.call("Runtime.evaluate", **arguments)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, url: str) -> None:
        """Load a URL."""
        self.call("Page.navigate", url=url)

    def observe(self, *domains: str) -> None:
        """Record the events of domains of the protocol, such as ``Network``."""
        for domain in domains:
            self.call(f"{domain}.enable")

    def screenshot(self, path: Path) -> None:
        """Write what the page shows as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def call(self, method: str, **params: Any) -> Any:
        """The result of a method of the protocol."""
        self._id += 1
        self._socket.send(json.dumps({"id": self._id, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=_CALL_S))
            if message.get("id") == self._id:
                return message["result"]
            self.events.append(message)


@contextmanager
def browser_page(*options: str) -> Iterator[Page]:
    """Start Chromium with an empty page, and end it by its pid."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        process = subprocess.Popen(
            [CHROMIUM, *flags, *options, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = _debugging_port(Path(profile) / "DevToolsActivePort")
            targets = httpx.get(f"http://127.0.0.1:{port}/json/list", timeout=60).json()
            url = next(target for target in targets if target["type"] == "page")
            with connect(url["webSocketDebuggerUrl"], max_size=None) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            process.wait(60)


def _debugging_port(file: Path) -> int:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if file.is_file() and (lines := file.read_text().split()):
            return int(lines[0])
        time.sleep(0.1)
    raise AssertionError("Chromium did not start")
