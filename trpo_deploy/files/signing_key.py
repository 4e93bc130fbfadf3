"""Keys that sign exported files, and that verify their signatures (PEM, elliptic curve)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from trpo_deploy.errors import SignatureError
from trpo_deploy.extras import require

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

_MAX_BYTES = 64 * 1024
"""Of a key or a signature: a key has less than 1 kB, a signature 2 kB."""
_HASHES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
"""The curves that ``model-signing`` accepts, and the hash that it uses with each."""


def read_small(path: Path) -> bytes:
    """Read a key or a signature.

    Raises:
        SignatureError: It is not a readable file, or too large.
    """
    try:
        if not path.is_file():  # a pipe would block
            raise SignatureError(f"{path} does not exist, or is not a file")
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise SignatureError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise SignatureError(
            f"{path} has more than {_MAX_BYTES} bytes; it is not a key or signature"
        )
    return content


def load_public_key(path: Path) -> EllipticCurvePublicKey:
    """Read a public key (PEM).

    Raises:
        SignatureError: The file is not a public key on the curve P-256, P-384 or P-521.
        MissingExtraError: The package ``cryptography`` is not installed.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        require("sign")
        raise
    text = read_small(path)
    if b"PRIVATE KEY" in text:
        raise SignatureError(
            f"{path} is a private key, expected a public one; make it with: openssl ec "
            f"-in {path} -pubout -out public.pem"
        )
    try:
        key = load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError(
            f"{path} is not a public key in PEM form (-----BEGIN PUBLIC KEY-----)"
        ) from error
    _check_curve(path, key)
    return cast("EllipticCurvePublicKey", key)


def check_private_key(path: Path, password: str | None) -> None:
    """Check that a file is a private key (PEM) with which a model can be signed.

    Raises:
        SignatureError: It is not, or the password is wrong.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = read_small(path)
    if b"PUBLIC KEY" in text:
        raise SignatureError(f"{path} is a public key; sign with the private key of the pair")
    if is_encrypted(path) and not password:
        raise SignatureError(
            f"{path} is encrypted; put its password into the variable TRPO_DEPLOY_KEY_PASSWORD"
        )
    try:
        key = load_pem_private_key(text, password.encode() if password else None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        reason = "the password is wrong, or it" if password else "it"
        raise SignatureError(
            f"cannot read the private key {path}: {reason} is not a key in PEM form"
        ) from error
    _check_curve(path, key.public_key())


def is_encrypted(path: Path) -> bool:
    """Whether a private key needs a password.

    Raises:
        SignatureError: The file cannot be read.
    """
    return b"ENCRYPTED" in read_small(path)


def hash_of(key: EllipticCurvePublicKey) -> HashAlgorithm:
    """The hash that goes with a key's curve."""
    from cryptography.hazmat.primitives import hashes

    return cast("HashAlgorithm", getattr(hashes, _HASHES[key.curve.name])())


def _check_curve(path: Path, key: object) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    found = key.curve.name if isinstance(key, EllipticCurvePublicKey) else type(key).__name__
    if found not in _HASHES:
        raise SignatureError(
            f"{path} is a key of the kind {found.removesuffix('PublicKey')}, expected an elliptic "
            "curve key on P-256, P-384 or P-521 (openssl ecparam -name prime256v1 -genkey -noout)"
        )
