"""``trpo-deploy verify``: its exit code tells the trained policy from any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper

from tests.command import run_cli
from trpo_deploy.files.model_dir import ModelDir


def test_the_same_policy_passes_and_a_certificate_is_written(
    model: ModelDir, tmp_path: Path
) -> None:
    certificate = tmp_path / "certificate.json"
    run = run_cli("verify", model.root, model.onnx, "-o", certificate)
    assert run.code == 0, run.error
    assert json.loads(certificate.read_text())["verdict"] == "pass"


def test_a_bias_off_by_a_thousandth_fails(model: ModelDir, tmp_path: Path) -> None:
    other = onnx.load(model.onnx)
    bias = next(tensor for tensor in other.graph.initializer if tensor.name == "/actor/0/bias")
    changed = onnx.numpy_helper.to_array(bias) + np.float32(1e-3)
    bias.CopyFrom(onnx.numpy_helper.from_array(changed, bias.name))
    onnx.save(other, tmp_path / "other.onnx")
    run = run_cli("verify", model.root, tmp_path / "other.onnx")
    assert run.code == 1
    assert "NOT the same policy" in run.output
