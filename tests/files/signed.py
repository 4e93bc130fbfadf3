"""Models with certificates, and pairs of keys, for the tests of signatures."""

from __future__ import annotations

import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.runtime.policy_files import write_policy
from trpo_deploy.files.atomic import file_sha256

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def write_certified(path: Path, seed: int = 0) -> Path:
    """Write a policy and a certificate next to it."""
    write_policy(path, seed=seed)
    certificate = {"verdict": "pass", "sha256": {"policy.onnx": file_sha256(path)}}
    (path.parent / "certificate.json").write_text(json.dumps(certificate))
    return path


def write_keys(
    folder: Path, key: PrivateKey | None = None, password: bytes | None = None
) -> tuple[Path, Path]:
    """Write a key pair, by default on P-256; returns the private and the public file."""
    folder.mkdir(parents=True, exist_ok=True)
    key = key or ec.generate_private_key(ec.SECP256R1())
    private, public = folder / "private.pem", folder / "public.pem"
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public
