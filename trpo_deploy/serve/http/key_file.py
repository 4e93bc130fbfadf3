"""API keys in a file, reloaded when it changes and compared in constant time."""

from __future__ import annotations

import hmac
import logging
import re
from hashlib import sha256
from pathlib import Path

from trpo_deploy.errors import ServeError

_MIN_KEY_LENGTH = 16
_HASHED = re.compile("sha256:([0-9a-f]{64})")
_log = logging.getLogger(__name__)


class KeyFile:
    """The keys of a file: one per line, as text or as ``sha256:`` and 64 hex digits.

    Empty lines and lines that start with ``#`` are ignored.

    Args:
        path: The file.

    Raises:
        ServeError: The file cannot be read, has no key, or has a key that is too short.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._modified_ns = self._read_mtime()
        self._digests = _read_digests(path)

    def allows(self, headers: dict[bytes, bytes]) -> bool:
        """Whether a request has a valid key.

        Keys are sent as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``.
        """
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            key = headers.get(b"x-api-key", b"")
        digest = sha256(key).digest()
        # Compare every key, so that the time does not depend on which one matches.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0

    def refresh(self) -> None:
        """Reload the file if it changed. An invalid file leaves the keys as they are."""
        modified_ns = self._read_mtime()
        if modified_ns == self._modified_ns:
            return
        self._modified_ns = modified_ns
        try:
            self._digests = _read_digests(self._path)
        except ServeError as error:
            _log.warning("keeping the previous keys: %s", error)

    def _read_mtime(self) -> int:
        return self._path.stat().st_mtime_ns if self._path.is_file() else 0


def _read_digests(path: Path) -> tuple[bytes, ...]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ServeError(f"cannot read the key file {path}: {error}") from error
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise ServeError(f"the key file {path} has no key; write one per line")
    return tuple(_digest(key, path) for key in keys)


def _digest(key: str, path: Path) -> bytes:
    hashed = _HASHED.fullmatch(key)
    if hashed:
        return bytes.fromhex(hashed[1])
    if len(key) < _MIN_KEY_LENGTH:
        raise ServeError(
            f"a key in {path} has {len(key)} characters, expected {_MIN_KEY_LENGTH} or more; "
            "create one with: openssl rand -hex 24"
        )
    return sha256(key.encode()).digest()
