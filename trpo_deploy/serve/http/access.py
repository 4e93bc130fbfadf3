"""API keys: files of them, read again when they change, compared in constant time."""

from __future__ import annotations

import hmac
import logging
import re
from hashlib import sha256
from pathlib import Path

from trpo_deploy.errors import ServeError

_SHORTEST_KEY = 16
_HASHED = re.compile("sha256:([0-9a-f]{64})")
_log = logging.getLogger(__name__)


class KeyFile:
    """The keys of a file: one a line, as text or as ``sha256:`` with its 64 hex digits.

    Empty lines and lines that begin with ``#`` are left out.

    Args:
        path: the file.

    Raises:
        ServeError: the file cannot be read, holds no key, or one that is easy to guess.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = self._time_of_change()
        self._digests = _read_digests(path)

    def allows(self, headers: dict[bytes, bytes]) -> bool:
        """Whether a request shows one of the keys.

        It does so by ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``.
        """
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            key = headers.get(b"x-api-key", b"")
        digest = sha256(key).digest()
        # Every key is compared, so that the time tells nothing of which one was close.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0

    def refresh(self) -> None:
        """Read the file again if it changed; a file that cannot be used changes nothing."""
        changed = self._time_of_change()
        if changed == self._changed:
            return
        self._changed = changed
        try:
            self._digests = _read_digests(self._path)
        except ServeError as error:
            _log.warning("the keys stay as they were: %s", error)

    def _time_of_change(self) -> int:
        return self._path.stat().st_mtime_ns if self._path.is_file() else 0


def _read_digests(path: Path) -> tuple[bytes, ...]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ServeError(f"cannot read the key file {path}: {error}") from error
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise ServeError(f"the key file {path} holds no key; write one a line")
    return tuple(_digest(key, path) for key in keys)


def _digest(key: str, path: Path) -> bytes:
    hashed = _HASHED.fullmatch(key)
    if hashed:
        return bytes.fromhex(hashed[1])
    if len(key) < _SHORTEST_KEY:
        raise ServeError(
            f"a key in {path} has {len(key)} characters, at least {_SHORTEST_KEY} are needed; "
            "make one with: openssl rand -hex 24"
        )
    return sha256(key.encode()).digest()
