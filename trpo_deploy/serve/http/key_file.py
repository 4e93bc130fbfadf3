"""API keys in a file, reloaded when it changes and compared in constant time."""

from __future__ import annotations

import hmac
import logging
import re
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

from trpo_deploy.errors import ServeError

_MIN_KEY_LENGTH = 16
_MAX_FILE_BYTES = 1024 * 1024
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})(?:[ \t]+\*?-)?|([0-9a-f]{64})[ \t]+\*?-", re.I)
"""``sha256:`` and a digest, a line of ``sha256sum``, or both."""
_LIKE_DIGEST = re.compile(
    r"(?:sha|md|blake|argon|pbkdf)(?:-?\d\w*)?[:=$(].*|(?:sha|md|blake)\d+-.*|[bs]crypt[:=$].*"
    r"|\$\w+\$.*|\{\w+\}.*|[\w-]+[:=][0-9a-f]{56,}|[0-9a-f]{57,63}|[0-9a-f]{65,71}",
    re.I,
)
"""Digests that are cut, of other algorithms, or with another prefix."""
_KEY = re.compile("[!-~]+")
_log = logging.getLogger(__name__)

Digests: TypeAlias = tuple[bytes, ...]


class KeyFile:
    """The keys of a file, as :func:`parse_digests` reads them.

    A file that becomes invalid or unreadable keeps the previous keys. A file without a key, or a
    deleted file, revokes all keys: it never opens the service.

    Args:
        path: The file. If it is invalid now, no key is valid.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content: bytes | None = None
        self._digests: Digests = ()
        self._problem = ""
        self.refresh()

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
        """Reload the file if its content changed, and log once if it cannot be used."""
        try:
            content = _read(self._path)
            if content == self._content:
                return
            self._content, self._digests = content, parse_digests(content, self._path)
            problem = "" if self._digests else f"the key file {self._path} has no key"
        except FileNotFoundError:
            self._content, self._digests = None, ()
            problem = f"the key file {self._path} does not exist"
        except (OSError, ServeError) as error:
            self._content = None
            problem = str(error)
        if problem and problem != self._problem:
            state = "keeping the previous keys" if self._digests else "no key is valid"
            _log.warning("%s: %s", state, problem)
        self._problem = problem


def check_key_file(path: Path) -> None:
    """Check a key file before the service starts.

    Raises:
        ServeError: The file cannot be read, is invalid, or has no key.
    """
    try:
        digests = parse_digests(_read(path), path)
    except OSError as error:
        raise ServeError(f"cannot read the key file {path}: {error}") from error
    if not digests:
        raise ServeError(f"the key file {path} has no key; write one per line")


def parse_digests(content: bytes, path: Path) -> Digests:
    """The SHA-256 digests of the keys in a file.

    A line has a key, or ``sha256:`` and the hex digest of one, optionally followed by what
    ``sha256sum`` prints after a digest. Empty lines and lines that start with ``#`` are ignored.

    Args:
        content: The bytes of the file: UTF-8, with or without a byte order mark.
        path: The file, for messages.

    Raises:
        ServeError: The file is too long, or a line is neither a key nor a digest.
    """
    if len(content) > _MAX_FILE_BYTES:
        raise ServeError(f"the key file {path} is longer than {_MAX_FILE_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ServeError(f"the key file {path} is not UTF-8 text: {error}") from error
    lines = ((number, line.strip(" \t\r")) for number, line in enumerate(text.split("\n"), 1))
    return tuple(
        _digest(line, f"{path}, line {number}")
        for number, line in lines
        if line and not line.startswith("#")
    )


def _digest(line: str, place: str) -> bytes:
    """The digest of a line. Messages name its place only: it may be a secret."""
    digest = _DIGEST.fullmatch(line)
    if digest is not None:
        return bytes.fromhex(digest[1] or digest[2])
    if _LIKE_DIGEST.fullmatch(line):
        raise ServeError(f"{place}: looks like a digest, expected sha256: and 64 hex digits")
    if not _KEY.fullmatch(line):
        raise ServeError(
            f"{place}: expected one key of printable ASCII characters without blanks, or sha256: "
            "and 64 hex digits"
        )
    if len(line) < _MIN_KEY_LENGTH:
        raise ServeError(
            f"{place}: the key has {len(line)} characters, expected {_MIN_KEY_LENGTH} or more; "
            "create one with: openssl rand -hex 24"
        )
    return sha256(line.encode()).digest()


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise ServeError(f"the key file {path} is not a regular file")
    with path.open("rb") as file:
        return file.read(_MAX_FILE_BYTES + 1)
