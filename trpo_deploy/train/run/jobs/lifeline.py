"""Runs a command of ``trpo-deploy`` that stops when the process that started it ends.

A process that is killed cannot stop its children. The child therefore reads its standard input, a
pipe whose other end only the parent holds: it ends with the parent, however that ended.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading


def main() -> None:
    """Run the command that the arguments name."""
    threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
    runpy.run_module("trpo_deploy", run_name="__main__", alter_sys=True)


def _stop_at_end_of_input() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # a training writes its checkpoint then


if __name__ == "__main__":
    main()
