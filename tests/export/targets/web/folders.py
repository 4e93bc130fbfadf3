"""Export a policy of a kind to JavaScript, and run its module in Node and in Chromium."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.export.targets.c.folders import compiler, run
from tests.export.targets.programs import make
from trpo_deploy.export import TargetOptions, export_file

NAME = "pol"


def write_folder(folder: Path, *, verify: bool = False, **kind: Any) -> Path:
    """Export a policy of :data:`tests.export.targets.programs.KINDS` to JavaScript."""
    onnx = make(folder / "model", **kind)
    export_file(onnx, TargetOptions("web", folder / "web", NAME), verify=verify)
    return folder / "web"


def tool(name: str) -> str:
    """Path of a program, or skip; in CI, a skipped test fails."""
    return compiler(name)


def run_module(folder: Path, code: str) -> Any:
    """Run JavaScript in Node with a ``policy`` of the folder; return what its ``result`` is."""
    script = (
        'import { readFileSync } from "node:fs";\n'
        f'import {{ Policy }} from "{(folder / f"{NAME}.js").as_uri()}";\n'
        f"const policy = new Policy();\nlet result;\n{code}\n"
        "console.log(JSON.stringify(result));"
    )
    said = run([tool("node"), "--input-type=module", "-e", script], cwd=folder)
    return json.loads(said)


def open_page(url: str, folder: Path, *, milliseconds: int = 5000) -> str:
    """The page after some virtual time in Chromium, as HTML.

    Args:
        url: Address of the page.
        folder: Folder for the browser's profile.
        milliseconds: The time, which passes as fast as the browser can.
    """
    # A container's shared memory and rights are too small for the defaults.
    container = ("--no-sandbox", "--disable-dev-shm-usage")
    options = ("--headless", "--disable-gpu", *container, f"--user-data-dir={folder}")
    budget = f"--virtual-time-budget={milliseconds}"
    return run([tool("chromium"), *options, budget, "--dump-dom", url])


def text_of(html: str, selector: str) -> str:
    """The text of the first element with a class or an id."""
    found = re.search(rf'(?:class|id)="{selector}"[^>]*>([^<]*)<', html)
    assert found is not None, html
    return found[1]
