"""A run that takes too long is stopped and answered, and its worker goes on."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.runtime.policy_files import write_policy
from tests.runtime.slow_policy import FAST, SLOW, write_slow_policy
from tests.serve.server import running


def test_a_run_without_end_is_a_503_that_names_the_model(tmp_path: Path) -> None:
    write_policy(tmp_path / "good" / "policy.onnx")
    write_slow_policy(tmp_path / "slow" / "policy.onnx")
    with running(tmp_path, run_seconds=1) as server:
        workers = server.workers()
        client = httpx.Client(base_url=server.url, timeout=120)
        with client:
            for path in ("/models/slow/predict", "/v2/models/slow/infer"):
                tensor = {"name": "obs", "datatype": "FP32", "shape": [1, 4], "data": SLOW}
                body = {"inputs": [tensor]} if "v2" in path else {"observation": SLOW}
                response = client.post(path, json=body)
                assert response.status_code == 503, response.text
                assert "model 'slow' took too long" in response.text
            for name in ("good", "slow"):
                answer = client.post(f"/models/{name}/predict", json={"observation": FAST})
                assert answer.status_code == 200
        assert server.workers() == workers
        server.process.terminate()
        output, _ = server.process.communicate(timeout=60)
    assert output.count("model slow: a run took longer than 1 s, stopped") == 2
    assert "Traceback" not in output
