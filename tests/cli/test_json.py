"""``--json`` puts one JSON object on stdout, whatever else prints."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import COMMAND, run_process
from trpo_deploy import TRPO
from trpo_deploy.files.model_dir import ModelDir

NOISY = """
import atexit
import ctypes
import os
import subprocess
import sys
import warnings

import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

print("printed by the import")
atexit.register(print, "printed at the end")


class Noisy(CartPoleEnv):
    def step(self, action):
        print("printed by Python")
        print("printed on stderr", file=sys.stderr)
        os.write(1, b"written to the descriptor")
        ctypes.CDLL(None).printf(b"printed by C, and buffered")
        warnings.warn("a warning")
        return super().step(action)

    def close(self):
        subprocess.run(["echo", "printed by a child process"], check=True)
        super().close()


gymnasium.register("Noisy-v0", entry_point=Noisy, max_episode_steps=20)
"""


@pytest.fixture
def folder(tmp_path: Path, model: ModelDir) -> Path:
    """A folder with the model and the module ``noisy``."""
    (tmp_path / "noisy.py").write_text(NOISY)
    shutil.copytree(model.root, tmp_path / "model")
    return tmp_path


@pytest.mark.skipif(sys.platform == "win32", reason="its C library has another name")
@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_stdout_is_one_json_object_where_the_environment_prints(folder: Path, backend: str) -> None:
    evaluate = ("evaluate", "model", "--env", "noisy:Noisy-v0", "--episodes", 2)
    run = run_process(*evaluate, "--backend", backend, "--json", cwd=folder)
    assert run.code == 0, run.error
    assert len(json.loads(run.output)["returns"]) == 2
    for text in ("by the import", "by Python", "descriptor", "by C", "child", "at the end"):
        assert text in run.error, text


def test_an_error_leaves_stdout_empty(folder: Path) -> None:
    run = run_process("evaluate", "model", "--env", "noisy:Nothing-v0", "--json", cwd=folder)
    assert run.code == 1
    assert run.output == ""
    assert "error: " in run.error


def test_a_closed_stderr_does_not_mix_with_the_json(folder: Path) -> None:
    command = [*COMMAND, "evaluate", "model", "--env", "noisy:Noisy-v0", "--episodes", "1"]
    shell = ["sh", "-c", '"$@" 2>&-', "sh", *command, "--json"]
    run = subprocess.run(shell, capture_output=True, text=True, cwd=folder, timeout=120)
    assert json.loads(run.stdout)["env_id"] == "noisy:Noisy-v0"


def test_stdout_has_only_the_result_where_the_environment_prints(folder: Path) -> None:
    """Without ``--json``, too."""
    env = ("--env", "noisy:Noisy-v0")
    TRPO("MlpPolicy", "CartPole-v1").save(folder / "untrained.zip")
    results = {
        ("export", "untrained.zip", *env, "-o", "x.onnx"): (
            "wrote x.onnx",
            "certificate: the same policy",
        ),
        ("verify", "untrained.zip", "x.onnx", *env): ("certificate: the same policy",),
        ("evaluate", "x.onnx", *env, "--episodes", 2): ("noisy:Noisy-v0: return ",),
    }
    for arguments, starts in results.items():
        run = run_process(*arguments, cwd=folder)
        assert run.code == 0, run.error
        lines = [line for line in run.output.splitlines() if not line.startswith("  ")]
        assert len(lines) == len(starts), run.output
        for line, start in zip(lines, starts, strict=True):
            assert line.startswith(start)
        for text in ("printed by Python", "printed by C", "printed at the end"):
            assert text in run.error
