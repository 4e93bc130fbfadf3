"""``serve`` checks its inputs before it starts a process."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.policy_files import write_policy
from trpo_deploy.errors import ServeError
from trpo_deploy.serve import serve


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_policy(tmp_path / "cart" / "policy.onnx").parent


def test_a_path_without_a_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="does not exist"):
        serve([tmp_path / "nothing"])
    with pytest.raises(ServeError, match="give a model folder"):
        serve([tmp_path])


def test_an_unreadable_policy_is_refused(tmp_path: Path) -> None:
    (tmp_path / "policy.onnx").write_bytes(b"nothing")
    with pytest.raises(ServeError, match="ONNX file"):
        serve([tmp_path])


def test_a_port_in_use_is_refused(model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match=f"port {port}.*--port"):
            serve([model], port=port)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 0}, "workers must be 1 or more, received 0"),
        ({"port": 70000}, "port must be 0 to 65535, received 70000"),
        ({"host": "no.such.host."}, "'no.such.host.' is not an address"),
        ({"max_batch": -1}, "max_batch.*received -1"),
    ],
)
def test_an_invalid_option_is_refused_by_name(
    model: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ServeError, match=words):
        serve([model], **options)


@pytest.mark.parametrize("text", ["", "# nothing\n\n", "short\n", "sha256:abc\n"])
def test_a_key_file_without_a_usable_key_is_refused(model: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ServeError, match="key"):
        serve([model], api_key_file=tmp_path / "keys")


def test_a_certificate_that_is_not_pem_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nothing")
    with pytest.raises(ServeError, match="PEM"):
        serve([model], tls=(tmp_path / "cert.pem", tmp_path / "cert.pem"))
