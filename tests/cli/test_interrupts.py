"""Ctrl-C during an import, and after the last line of a command."""

from __future__ import annotations

import importlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import run_cli, run_process
from trpo_deploy.cli.interrupts import InterruptAfterImports

SECONDS = 60
"""Longer than any wait here takes."""
PRESSED = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\n"
CARELESS = f"""{PRESSED}
try:  # as NumPy's C code does with whatever an import of its own raises
    time.sleep(0.2)
except KeyboardInterrupt:
    pass
COMPLETE = True
"""
ENDLESS = f"{PRESSED}os.kill(os.getpid(), signal.SIGINT)\ntime.sleep({SECONDS})\n"
ENVIRONMENT = f"""
import gymnasium
class Slow(gymnasium.Env):
    def __init__(self, **_):
        time.sleep({SECONDS})
gymnasium.register("Slow-v0", Slow)
print("complete", flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to import from, while the command's handler is installed."""
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.signal(signal.SIGINT, InterruptAfterImports())
    yield tmp_path
    signal.signal(signal.SIGINT, before)
    for name in ("careless", "endless"):
        sys.modules.pop(name, None)


def test_it_waits_for_the_end_of_an_import(folder: Path) -> None:
    (folder / "careless.py").write_text(CARELESS)
    module = None

    def interrupted() -> None:
        nonlocal module
        module = importlib.import_module("careless")
        time.sleep(SECONDS)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert module is not None
    assert module.COMPLETE


def test_the_second_one_ends_an_import(folder: Path) -> None:
    (folder / "endless.py").write_text(ENDLESS)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        importlib.import_module("endless")
    time.sleep(0.5)  # nothing is left to be raised later
    assert time.monotonic() - start < SECONDS / 2


@pytest.mark.usefixtures("folder")
def test_outside_of_an_import_it_takes_effect_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_the_command_ends_after_the_import(tmp_path: Path) -> None:
    (tmp_path / "careless.py").write_text(CARELESS + ENVIRONMENT)
    done = run_cli("train", "careless:Slow-v0", cwd=tmp_path)
    assert "complete" in done.output
    assert done.code == 130
    assert "Traceback" not in done.error


# As a handler of ``train`` leaves it: both signals raise KeyboardInterrupt.
SIGNAL_AT_SHUTDOWN = """
import atexit, os, signal, sys
from trpo_deploy.cli.app import main

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.default_int_handler)
atexit.register(lambda: os.kill(os.getpid(), int(sys.argv.pop())))
sys.argv[1:] = ["--help", sys.argv[1]]
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_python_shuts_down_ends_the_process_silently(number: int) -> None:
    run = run_process(int(number), command=(sys.executable, "-c", SIGNAL_AT_SHUTDOWN))
    assert run.code == -number
    assert run.error == ""
    assert "Usage" in run.output  # which was written before
