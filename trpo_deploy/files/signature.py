"""Signatures of exported files: who vouches for an ONNX file and its certificate.

A signature is a Sigstore bundle, as OpenSSF's ``model-signing`` writes it with a key: a DSSE
envelope (https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md) around an in-toto
statement with the SHA-256 of ``policy.onnx`` and ``certificate.json``. Why ``model-signing`` does
not read it here: ``docs/decisions/signatures.md``.
"""

from __future__ import annotations

import json
import tempfile
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, cast

from trpo_deploy.errors import SignatureError
from trpo_deploy.extras import require
from trpo_deploy.files.atomic import atomic_write, file_sha256
from trpo_deploy.files.certificate import certificate_path, read_certificate
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.names import ONNX, stem
from trpo_deploy.files.signing_key import check_private_key, hash_of, load_public_key, read_small

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

_TYPES = ("application/vnd.in-toto+json", "https://model_signing/signature/v1.0")
"""Types of the payload and of the predicate in it."""
_SIGNED = {"policy.onnx", "certificate.json"}


def signature_path(onnx: Path) -> Path:
    """Path of an ONNX file's signature, in the same folder."""
    return onnx.with_name(f"{stem(onnx, ONNX)}.sig")


def sign(onnx: Path, key: Path, password: str | None = None, output: Path | None = None) -> Path:
    """Sign an ONNX file and its certificate.

    Args:
        onnx: The exported file. Its certificate must be next to it and certify it.
        key: Private key (PEM) on the curve P-256, P-384 or P-521.
        password: Password of the key, if it has one.
        output: The file to write; by default ``policy.sig`` next to the ONNX file.

    Returns:
        The file that was written.

    Raises:
        SignatureError: The certificate does not certify the file, or the key cannot be used.
        ModelDirError: The certificate cannot be read, or the signature cannot be written.
        MissingExtraError: The extra ``sign`` is not installed.
    """
    require("sign")
    _check_certificate(onnx)
    check_private_key(key, password)
    from model_signing.signing import Config

    with tempfile.TemporaryDirectory(prefix="trpo-deploy-sign-") as temporary:
        # model-signing signs every file of a folder: give it one with these two.
        folder = ModelDir(Path(temporary, onnx.absolute().parent.name or "model"))
        folder.root.mkdir()
        copyfile(onnx, folder.onnx)
        copyfile(certificate_path(onnx), folder.certificate)
        # Declared as str, and passed on to `cryptography`, which takes bytes.
        secret = cast("str | None", password and password.encode())
        signed = Path(temporary, "signature")
        config = Config()  # type: ignore[no-untyped-call]
        config.use_elliptic_key_signer(private_key=key, password=secret).sign(folder.root, signed)
        path = output or signature_path(onnx)
        atomic_write(path, signed.read_bytes())
    return path


def check_signature(onnx: Path, keys: Sequence[Path]) -> Path:
    """Check that a trusted key signed an ONNX file and its certificate as they are now.

    Args:
        onnx: The exported file.
        keys: Trusted public keys (PEM).

    Returns:
        The key that signed them.

    Raises:
        SignatureError: The file is not signed, the signature is not by a trusted key, a file was
            changed since, or a key cannot be read.
    """
    path = signature_path(onnx)
    if not path.is_file():
        raise SignatureError(f"{onnx} is not signed; sign it with: trpo-deploy sign {onnx}")
    envelope = _read_envelope(path)
    for key in keys:
        if _made(load_public_key(key), envelope):
            break
    else:
        names = ", ".join(map(str, keys))
        raise SignatureError(
            f"{path} was not made with a trusted key ({names}), or was changed; sign the model "
            "with a key whose public half is trusted"
        )
    for name, file in (("policy.onnx", onnx), ("certificate.json", certificate_path(onnx))):
        if not file.is_file() or file_sha256(file) != envelope.digests[name]:
            raise SignatureError(
                f"{file} was changed or removed since it was signed; if that is intended, sign "
                f"it again with: trpo-deploy sign {onnx}"
            )
    return key


def _check_certificate(onnx: Path) -> None:
    """Refuse to sign what a service would refuse to serve."""
    certificate, sha256 = read_certificate(onnx), file_sha256(onnx)
    advice = "write the certificate with: trpo-deploy verify SOURCE POLICY.onnx -o certificate.json"
    if certificate is None:
        raise SignatureError(f"{onnx} has no certificate, so it is not signed; {advice}")
    digests = certificate.get("sha256")
    certified = digests.get("policy.onnx") if isinstance(digests, dict) else None
    if certificate.get("verdict") != "pass" or certified != sha256:
        raise SignatureError(
            f"{certificate_path(onnx)} does not certify {onnx} (SHA-256 {sha256[:12]}), so it is "
            f"not signed; {advice}"
        )


@dataclass(frozen=True)
class _Envelope:
    """The content of a signature file. Only :func:`_made` tells whether it can be trusted."""

    payload: bytes
    signature: bytes
    digests: dict[str, str]
    """Hex SHA-256 by file name, as the payload says."""


def _read_envelope(path: Path) -> _Envelope:
    try:
        envelope = json.loads(read_small(path))["dsseEnvelope"]
        (signature,) = envelope["signatures"]
        payload = b64decode(envelope["payload"], validate=True)
        statement = json.loads(payload)
        types = (envelope["payloadType"], statement["predicateType"])
        files = statement["predicate"]["resources"]
        digests = {file["name"]: file["digest"] for file in files if file["algorithm"] == "sha256"}
        if types != _TYPES or len(files) != 2 or digests.keys() != _SIGNED:
            raise ValueError("it signs something else")
        return _Envelope(payload, b64decode(signature["sig"], validate=True), digests)
    # The file may hold any JSON, of any depth.
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise SignatureError(
            f"{path} is not a signature of policy.onnx and certificate.json; write it again with: "
            "trpo-deploy sign"
        ) from error


def _made(key: EllipticCurvePublicKey, envelope: _Envelope) -> bool:
    """Whether a key made a signature (ECDSA over DSSE's pre-authentication encoding)."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    kind, payload = _TYPES[0].encode(), envelope.payload
    encoded = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    try:
        key.verify(envelope.signature, encoded, ECDSA(hash_of(key)))
    except InvalidSignature:
        return False
    return True
