"""A run that takes more memory than there is gets an answer that says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.runtime.policy_files import write_policy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")

CODE = """
import resource, sys
from pathlib import Path
import numpy as np
from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.models.served_policy import ServedPolicy
policy = ServedPolicy(Path(sys.argv[1]), "large")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28,) * 2)
try:
    policy.run(["action", "unused"], {"obs": np.zeros((1000, 4), np.float32)})
except Exception as error:
    answer = RequestError.from_exception(error, "answering a test")
    print(answer.status, answer.code)
"""


def test_memory_that_onnxruntime_does_not_get_is_a_413(tmp_path: Path) -> None:
    file = write_policy(tmp_path / "large" / "policy.onnx")
    model = onnx.load(file)
    wide = onnx.numpy_helper.from_array(np.zeros((4, 500_000), np.float32), "wide")
    model.graph.initializer.append(wide)
    model.graph.node.insert(0, onnx.helper.make_node("MatMul", ["obs", "wide"], ["unused"]))
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("unused", onnx.TensorProto.FLOAT, ["batch", 500_000])
    )
    onnx.save(model, file)
    run = subprocess.run(
        [sys.executable, "-c", CODE, str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["413", "out_of_memory"], run.stderr
