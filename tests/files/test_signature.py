"""A signature holds for two files as they were, and for the key that made it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.files.signed import PrivateKey, write_certified, write_keys
from trpo_deploy.errors import SignatureError
from trpo_deploy.files.atomic import file_sha256
from trpo_deploy.files.signature import check_signature, sign, signature_path


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    return write_certified(tmp_path / "cart" / "policy.onnx")


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path / "keys")


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_a_key_on_each_curve_signs_and_verifies(
    onnx: Path, tmp_path: Path, curve: ec.EllipticCurve
) -> None:
    private, public = write_keys(tmp_path / "keys", ec.generate_private_key(curve))
    sign(onnx, private)
    assert check_signature(onnx, [public]) == public


def test_any_trusted_key_is_enough(onnx: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    _, other = write_keys(tmp_path / "other")
    sign(onnx, keys[0])
    assert check_signature(onnx, [other, keys[1]]) == keys[1]
    with pytest.raises(SignatureError, match="not made with a trusted key"):
        check_signature(onnx, [other])


def test_other_files_of_the_folder_may_change(onnx: Path, keys: tuple[Path, Path]) -> None:
    sign(onnx, keys[0])
    (onnx.parent / "README.md").write_text("a card")
    check_signature(onnx, [keys[1]])


@pytest.mark.parametrize("name", ["policy.onnx", "certificate.json"])
@pytest.mark.parametrize("change", [lambda f: f.write_bytes(f.read_bytes() + b" "), Path.unlink])
def test_a_change_of_either_file_is_found(
    onnx: Path, keys: tuple[Path, Path], name: str, change: Callable[[Path], None]
) -> None:
    sign(onnx, keys[0])
    change(onnx.parent / name)
    with pytest.raises(SignatureError, match=f"{name} was changed or removed"):
        check_signature(onnx, [keys[1]])


def test_a_signature_follows_the_name_of_its_file(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    onnx = write_certified(tmp_path / "ppo_lr0.0003.onnx")
    (tmp_path / "certificate.json").rename(tmp_path / "ppo_lr0.0003.certificate.json")
    assert sign(onnx, keys[0]).name == "ppo_lr0.0003.sig"
    check_signature(onnx, [keys[1]])


def test_openssfs_tool_verifies_it_too(onnx: Path, keys: tuple[Path, Path]) -> None:
    (onnx.parent / "README.md").write_text("not signed")
    signature = sign(onnx, keys[0])
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(onnx.parent)]
    command += ["--signature", str(signature), "--public_key", str(keys[1])]
    result = subprocess.run(
        [*command, "--ignore_unsigned_files"], capture_output=True, text=True, check=False
    )
    assert "succeeded" in result.stdout, result.stdout + result.stderr
    onnx.write_bytes(onnx.read_bytes() + b" ")
    result = subprocess.run(
        [*command, "--ignore_unsigned_files"], capture_output=True, text=True, check=False
    )
    assert "succeeded" not in result.stdout


def test_a_signature_of_other_files_by_a_trusted_key_is_refused(
    onnx: Path, keys: tuple[Path, Path]
) -> None:
    from model_signing import hashing, signing

    for ignored in (["certificate.json"], []):  # too few, too many
        (onnx.parent / "README.md").write_text("signed too")
        hashes = hashing.Config()  # type: ignore[no-untyped-call]
        hashes.set_ignored_paths(paths=ignored, ignore_git_paths=True)
        config = signing.Config()  # type: ignore[no-untyped-call]
        config.use_elliptic_key_signer(private_key=keys[0]).set_hashing_config(hashes)
        config.sign(onnx.parent, signature_path(onnx))
        with pytest.raises(SignatureError, match="not a signature of policy"):
            check_signature(onnx, [keys[1]])
        signature_path(onnx).unlink()


def _forge(signature: Path, change: Callable[[Any], None]) -> None:
    """Change the statement of a signature without signing it again."""
    bundle = json.loads(signature.read_text())
    envelope = bundle["dsseEnvelope"]
    statement = json.loads(b64decode(envelope["payload"]))
    change(statement)
    envelope["payload"] = b64encode(json.dumps(statement).encode()).decode()
    signature.write_text(json.dumps(bundle))


def test_a_statement_that_was_changed_is_refused(onnx: Path, keys: tuple[Path, Path]) -> None:
    signature = sign(onnx, keys[0])
    onnx.write_bytes(onnx.read_bytes() + b" ")

    def rewrite(statement: Any) -> None:
        for resource in statement["predicate"]["resources"]:
            resource["digest"] = file_sha256(onnx.parent / resource["name"])

    _forge(signature, rewrite)
    with pytest.raises(SignatureError, match="not made with a trusted key"):
        check_signature(onnx, [keys[1]])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"dsseEnvelope": 3}',
        b'{"dsseEnvelope": {"payload": 5, "signatures": [{}]}}',
        b'{"dsseEnvelope": {"payload": "!", "signatures": [{"sig": ""}]}}',
        b'{"dsseEnvelope": {"payload": "e30=", "signatures": []}}',
        b'{"dsseEnvelope": {"payload": "e30=", "signatures": [{"sig": ""}], "payloadType": []}}',
        b"[" * 60_000,
        b"1" * 60_000,
        b" " * 70_000,
    ],
)
def test_any_other_file_is_one_clear_error(
    onnx: Path, keys: tuple[Path, Path], content: bytes
) -> None:
    signature_path(onnx).write_bytes(content)
    with pytest.raises(SignatureError, match=r"is not a (key or )?signature"):
        check_signature(onnx, [keys[1]])


def test_a_model_without_a_signature_is_refused(onnx: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(SignatureError, match="is not signed; sign it with: trpo-deploy sign"):
        check_signature(onnx, [keys[1]])
    os.mkfifo(signature_path(onnx))
    with pytest.raises(SignatureError, match="is not signed"):
        check_signature(onnx, [keys[1]])


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (rsa.generate_private_key(65537, 2048), "kind RSA"),
        (ed25519.Ed25519PrivateKey.generate(), "kind Ed25519"),
        (ec.generate_private_key(ec.SECP256K1()), "kind secp256k1"),
    ],
)
def test_a_key_of_another_kind_is_refused(
    onnx: Path, tmp_path: Path, keys: tuple[Path, Path], key: PrivateKey, words: str
) -> None:
    private, public = write_keys(tmp_path / "other", key)
    with pytest.raises(SignatureError, match=words):
        sign(onnx, private)
    sign(onnx, keys[0])
    with pytest.raises(SignatureError, match=words):
        check_signature(onnx, [public])


def test_signing_and_verifying_use_no_network(
    onnx: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    sign(onnx, keys[0])
    check_signature(onnx, [keys[1]])


def test_verifying_imports_no_signing_library(onnx: Path, keys: tuple[Path, Path]) -> None:
    sign(onnx, keys[0])
    code = (
        "import sys\nfrom pathlib import Path\n"
        "for name in ('model_signing', 'sigstore', 'tuf', 'requests', 'OpenSSL'):\n"
        "    sys.modules[name] = None\n"
        "from trpo_deploy.files.signature import check_signature\n"
        f"check_signature(Path({str(onnx)!r}), [Path({str(keys[1])!r})])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
