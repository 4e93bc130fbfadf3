"""Runs the command line as a user does, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """What a command came to."""

    code: int
    output: str
    error: str

    def assert_one_clear_line(self, *says: str) -> None:
        """Exit code 1, one line on stderr, no traceback."""
        assert self.code == 1, (self.code, self.output, self.error)
        assert "Traceback" not in self.output + self.error
        lines = [line for line in self.error.splitlines() if line]
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        for text in says:
            assert text in lines[0], lines[0]


def run_cli(*arguments: object, cwd: Path | None = None) -> Run:
    """Run ``trpo-deploy`` with the arguments given."""
    command = [sys.executable, "-m", "trpo_deploy", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240)
    return Run(done.returncode, done.stdout, done.stderr)


def hear_ctrl_c() -> None:
    """For ``preexec_fn``: a job in the background hands on that it ignores SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
