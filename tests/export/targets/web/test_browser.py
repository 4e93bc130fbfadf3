"""The JavaScript in Chromium, under a strict Content-Security-Policy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.export.targets.programs import KINDS
from tests.export.targets.web.folders import NAME, open_page, text_of, write_folder
from trpo_deploy.export.targets.agreement import TOLERANCE

STRICT = "default-src 'none'; script-src 'self'"
PAGE = '<!doctype html><p id="error">none</p>'
SHOW = 'document.getElementById("error").textContent = new {}.selfTest();\n'
SPACES = ("action box", "action multi discrete", "observation image hwc", "stack of a dict")


class Strict(SimpleHTTPRequestHandler):
    """Files with a strict policy."""

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", STRICT)
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Strict, directory=str(folder)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("kind", SPACES)
def test_the_script_runs_in_a_page_that_is_opened_as_a_file(kind: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, **KINDS[kind])
    (folder / "main.js").write_text(SHOW.format(f"{NAME}.Policy()"))
    policy = f'<meta http-equiv="Content-Security-Policy" content="{STRICT}">'
    scripts = f'<script src="{NAME}.global.js"></script><script src="main.js"></script>'
    (folder / "index.html").write_text(PAGE.replace("<p", f"{policy}<p") + scripts)
    html = open_page((folder / "index.html").as_uri(), tmp_path / "profile")
    assert float(text_of(html, "error")) <= TOLERANCE


@pytest.mark.parametrize("kind", SPACES)
def test_the_module_runs_in_a_page_of_a_server(kind: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, **KINDS[kind])
    imported = f'import {{ Policy }} from "./{NAME}.js";\n'
    (folder / "main.js").write_text(imported + SHOW.format("Policy()"))
    (folder / "index.html").write_text(PAGE + '<script type="module" src="main.js"></script>')
    with served(folder) as url:
        html = open_page(f"{url}/index.html", tmp_path / "profile")
    assert float(text_of(html, "error")) <= TOLERANCE
