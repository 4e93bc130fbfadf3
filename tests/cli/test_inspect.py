"""``trpo-deploy inspect``: the contract of a file, without torch."""

from __future__ import annotations

import json
import sys

from tests.command import run_cli, run_process
from trpo_deploy.files.model_dir import ModelDir


def test_inspect_shows_inputs_outputs_and_environment(model: ModelDir) -> None:
    run = run_cli("inspect", model.root)
    assert run.code == 0, run.error
    for text in ("obs: float32 (batch, 4)", "action: int64 (batch)", "CartPole-v1"):
        assert text in run.output


def test_json_is_the_only_thing_on_stdout(model: ModelDir) -> None:
    run = run_process("inspect", model.onnx, "--json")
    spec = json.loads(run.output)
    assert spec["outputs"] == [{"name": "action", "dtype": "int64", "shape": ["batch"]}]


def test_inspect_needs_no_torch(model: ModelDir) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'stable_baselines3', 'onnx', 'gymnasium', 'bentoml'):\n"
        "    sys.modules[name] = None\n"
        "from trpo_deploy.cli.app import main\n"
        "main()"
    )
    run = run_process("inspect", model.onnx, command=(sys.executable, "-c", code))
    assert "obs: float32" in run.output, run.error
