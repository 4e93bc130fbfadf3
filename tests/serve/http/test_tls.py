"""HTTPS with certificate files."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.runtime.policy_files import write_policy
from tests.serve.server import running


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_the_service_presents_its_certificate(tmp_path: Path) -> None:
    model = write_policy(tmp_path / "cart" / "policy.onnx").parent
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    with running(model, tls=(cert, key)) as server:
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(cert))
        body = {"observation": [1, 2, 3, 4]}
        assert httpx.post(f"{server.url}/predict", json=body, verify=context).status_code == 200
