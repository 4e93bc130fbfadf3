"""Ctrl-C during an import, and after the last line of a command."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from tests.command import run_process
from trpo_deploy.cli.interrupts import interrupts_deferred


def test_ctrl_c_takes_effect_after_the_block() -> None:
    before, imported = signal.getsignal(signal.SIGINT), []

    def interrupted() -> None:
        with interrupts_deferred():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            imported.append(True)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert imported
    assert signal.getsignal(signal.SIGINT) is before


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
