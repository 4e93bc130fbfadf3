"""Ctrl-C during an import."""

from __future__ import annotations

import os
import signal
import time

import pytest

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
