"""The examples run as their first lines say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.command import run_cli

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_control_loop_plays_an_episode(agents: Path, tmp_path: Path) -> None:
    onnx = tmp_path / "policy.onnx"
    exported = run_cli("export", agents / "CartPole-v1_1", "-o", onnx, "--no-verify")
    assert exported.code == 0, exported.error
    command = [sys.executable, str(EXAMPLES / "control_loop.py"), str(onnx)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.stdout == "CartPole-v1: return 500.0\n", run.stderr
