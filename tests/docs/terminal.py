"""Runs the blocks of a page, as a reader would in a terminal and at a Python prompt."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from tests.conftest import AGENTS
from tests.docs.addresses import PROJECT
from tests.docs.blocks import Block

ROOT = Path(__file__).parents[2]
PIP = Path(__file__).with_name("pip_stand_in.py")
LIMIT_SECONDS = 240
"""For one block, and for the start of a server."""

Process: TypeAlias = "subprocess.Popen[bytes]"
Table: TypeAlias = "tuple[tuple[str, str], ...]"

SHARED = ("LICENSE", "README.md", "constraints.txt", "docs", "pyproject.toml", "scripts")
COPIED = ("benchmarks", "examples", "models")
SERVER = re.compile(r"^(?:\S*/)?(?:trpo-deploy|bentoml) serve\b(?!.*&\s*$)")

# What a test changes in a block before it runs it. PORT and OTHER are free ports.
ADDRESSES = (
    (r"\b(127\.0\.0\.1|localhost):(3000|5005)\b", r"\1:PORT"),
    (r"(--port|robot_controller) 5005\b", r"\1 PORT"),
    (r"(--grpc-port |\b127\.0\.0\.1:)3001\b", r"\g<1>OTHER"),
)
REPLACED = (
    (r"\b(trpo-deploy|bentoml) serve\b", r"\g<0> --port PORT"),
    # Installed already: .venv is a link to the environment of the tests.
    (r"\bpython3? -m venv\b", "test -d"),
    (r"(?<![\w-])(python3? -m )?pip install\b", f"python {shlex.quote(str(PIP))}"),
    (rf"\bgit clone {re.escape(PROJECT)}\b(\.git)?", "ln -s . trpo-deploy"),
    (r"^make\b", f"make --dry-run -C {shlex.quote(str(ROOT))}"),
)
# In ``sh`` blocks only: ``console`` blocks show what the command prints. TRAINED is what the same
# command wrote, once for all pages.
SHORTENED = (
    (
        r"(\S*/)?\btrpo-deploy train CartPole-v1(?=\s*(#.*)?$)",
        "mkdir -p runs && cp -rT TRAINED runs/CartPole-v1",
    ),
    (r"\btrpo-deploy train\b(?!.*--resume)", r"\g<0> -n 2048 --eval-episodes 1"),
    # Only the tutorial's own environment needs an export: TRAINED has one already, and its
    # certificate plays 96 episodes of CartPole.
    (r"\btrpo-deploy train\b.* CartPole-v1\b", r"\g<0> --no-export"),
    (r"\btrpo-deploy tune\b(?!.*--show).*", r"\g<0> --trials 1 --seeds 1 -n 512"),
    (r"\btrpo-deploy evaluate\b(.*--episodes \d+)?", r"\g<0> --episodes 1"),
    # One seed instead of two; tests/train/run/test_benchmark.py trains several.
    (r"(\btrpo-deploy benchmark\b.*) --seeds \d+ -n \d+", r"\1 --seeds 1 -n 2048"),
    # A thousand frames take half a minute; tests/play/test_video.py writes shorter videos.
    (r"(\btrpo-deploy evaluate\b.*) --video \S+", r"\1"),
    # A certificate of a MuJoCo policy takes half a minute; those that ship have theirs.
    (r"\btrpo-deploy export (?=(models|rl-trained-agents)/)", r"\g<0> --no-verify "),
    (r"\btrpo-deploy (export|verify)\b(?! \S+\.onnx\b)", r"\g<0> --steps 200 --seconds 1"),
)


class Terminal:
    """Runs blocks in one folder, one after another.

    Files, the working folder, exported variables and the names of Python stay from block to block.
    A server in the last line of a block runs until the next server starts, or the page ends.

    Args:
        folder: An empty folder.
        trained: What ``trpo-deploy train CartPole-v1`` wrote, for a page with this command.
        names: What Python has at the beginning.
        commands: A folder of commands that come before the installed ones.

    Attributes:
        names: What Python has now.
    """

    def __init__(
        self,
        folder: Path,
        trained: Path,
        names: Mapping[str, object],
        commands: Path = Path(sys.executable).parent,
    ) -> None:
        self._folder = folder
        self._commands = commands
        self.names: dict[str, Any] = {"__name__": "__main__", **names}
        self._here = folder / "checkout"
        self._port = _free_port()
        self._values = {
            "PORT": str(self._port),
            "OTHER": str(_free_port()),
            "TRAINED": shlex.quote(str(trained)),
        }
        self._server: Process | None = None
        self._started: list[Process] = []
        _make_checkout(self._here)

    def run_all(self, blocks: Iterable[Block]) -> None:
        """Run those blocks of a page that can be run, in order.

        Raises:
            AssertionError: A command failed, or printed something else than the block shows. The
                message names the block.
        """
        for block in blocks:
            if block.is_run:
                self._run_named(block)

    def _run_named(self, block: Block) -> None:
        try:
            self.run(block)
        except Exception as error:
            place = f"{block.page.relative_to(ROOT)}:{block.line}"
            raise AssertionError(f"{place}: {block.kind}: {error}") from error

    def run(self, block: Block) -> None:
        """Run one block."""
        run = {"sh": self._run_sh, "console": self._run_console, "python": self._run_python}
        run[block.kind](block)

    def close(self) -> None:
        """End what still runs."""
        self._stop_server()
        for process in self._started:
            with suppress(ProcessLookupError):  # all of its processes have ended
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _run_python(self, block: Block) -> None:
        # Lines above, so that a traceback shows the page's line.
        source = "\n" * block.line + self._replaced(block.text, ADDRESSES)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self._here)
            exec(compile(source, block.page, "exec"), self.names)

    def _run_sh(self, block: Block) -> None:
        *before, last = re.split(r"(?<!\\)\n", block.text.rstrip())
        for line in before:
            assert not SERVER.match(line), f"{line}: a server is the last line of its block"
        is_server = SERVER.match(last) is not None
        # The process is the server itself then, so that it gets the signals.
        text = "\n".join([*before, "save", f"exec {last}"]) if is_server else block.text
        text = self._replaced(text, ADDRESSES, REPLACED, SHORTENED)
        if is_server:
            self._serve(text)
        else:
            code, output = self._bash(text)
            assert code == 0, f"exit code {code}\n{output}"

    def _run_console(self, block: Block) -> None:
        for command, expected in _commands(block.text):
            assert not SERVER.match(command), f"{command}: start a server in a block of kind sh"
            _, output = self._bash(self._replaced(command, ADDRESSES, REPLACED))
            expected = self._replaced(expected, ADDRESSES)
            assert matches(expected, output), (
                f"$ {command}\nexpected:\n{expected}\nreceived:\n{output}"
            )

    def _replaced(self, text: str, *tables: Table) -> str:
        for pattern, replacement in (pair for table in tables for pair in table):
            for name, value in self._values.items():
                replacement = replacement.replace(name, value)
            text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
        return text

    def _bash(self, text: str) -> tuple[int, str]:
        """Run commands until one fails; returns the exit code and what they printed."""
        process, output = self._start(text)
        try:
            code = process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"runs for {LIMIT_SECONDS} s\n{_text(output)}") from None
        self._here = Path((self._folder / "here").read_text().rstrip("\n"))
        return code, _text(output)

    def _start(self, text: str) -> tuple[Process, Path]:
        """Start commands; returns their process and the file with what they print."""
        here, variables = self._folder / "here", self._folder / "variables"
        script = (
            f"save() {{ pwd > {here}; export -p > {variables}; }}\n"
            f"trap save EXIT\n"
            f"test ! -e {variables} || . {variables}\n"
            f"set -eo pipefail\n{text}\n"
        )
        # A file for each process: a server prints while later commands run.
        path = self._folder / f"output-{len(self._started)}"
        with path.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", script],
                cwd=self._here,
                env=_environment(self._folder, self._commands),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process, path

    def _serve(self, text: str) -> None:
        """Run commands, the last of which is a server, until it answers."""
        self._stop_server()
        self._server, output = self._start(text)
        due = time.monotonic() + LIMIT_SECONDS
        while not _is_ready(self._port):
            assert self._server.poll() is None, f"the server ended\n{_text(output)}"
            assert time.monotonic() < due, f"no answer\n{_text(output)}"
            time.sleep(0.1)

    def _stop_server(self) -> None:
        """As Ctrl-C does, so that the port is free for the next one."""
        if self._server is not None and self._server.poll() is None:
            self._server.send_signal(signal.SIGTERM)
            self._server.wait(LIMIT_SECONDS)
        self._server = None


def _text(output: Path) -> str:
    return output.read_text(encoding="utf-8")


def _make_checkout(folder: Path) -> None:
    """What a page finds in a checkout; commands may write to copies only."""
    folder.mkdir()
    for name in COPIED:
        results = shutil.ignore_patterns("results", "__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=results)
    for name in SHARED:
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "rl-trained-agents").mkdir()
    (folder / "rl-trained-agents" / "trpo").symlink_to(AGENTS.resolve())


def _environment(folder: Path, commands: Path) -> dict[str, str]:
    installed = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": os.pathsep.join(map(str, (commands, installed, os.environ["PATH"]))),
        "BENTOML_HOME": str(folder / "bentoml"),
        "COLUMNS": "100",  # rich wraps lines here
        "NO_COLOR": "1",
        "OMP_NUM_THREADS": "1",
    }


def _commands(text: str) -> list[tuple[str, str]]:
    r"""Each command after ``$ ``, with the lines that a ``\`` at the end adds, and its output."""
    assert text.startswith("$ "), "a block of kind console starts with '$ '"
    parts = re.split(r"^\$ ((?:.*\\\n)*.*)\n", text, flags=re.MULTILINE)[1:]
    return [(command, output.rstrip()) for command, output in zip(*[iter(parts)] * 2, strict=True)]


def matches(expected: str, output: str) -> bool:
    """Whether they are equal; ``…`` stands for any text, and as a line for any lines."""
    pattern = ""
    for line in expected.split("\n"):
        any_text = re.escape(line.rstrip()).replace("…", ".*") + " *\n"
        pattern += r"(?:.*\n)*" if line.strip() == "…" else any_text
    return re.fullmatch(pattern, output.rstrip() + "\n") is not None


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _is_ready(port: int) -> bool:
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    for scheme in ("http", "https"):
        with suppress(URLError, OSError):
            try:
                urlopen(f"{scheme}://127.0.0.1:{port}/readyz", timeout=5, context=anyone).close()
            except HTTPError:
                return False
            return True
    return False
