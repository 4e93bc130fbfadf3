"""Access control: which requests need which key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.http.key_file import KeyFile
from trpo_deploy.serve.settings import Settings

AccessLevel: TypeAlias = Literal["open", "key", "admin"]
"""``open`` needs no key, ``key`` one of the API keys if there are any, ``admin`` an admin key."""


_EXPECTED: Mapping[AccessLevel, str] = {
    "key": "an API key of the service",
    "admin": "a key of --admin-key-file, which API keys are not,",
}


class AccessControl:
    """Checks the keys of requests.

    Args:
        settings: The key files.
    """

    def __init__(self, settings: Settings) -> None:
        files = {"key": settings.api_key_file, "admin": settings.admin_key_file}
        self._keys = {level: KeyFile(path) for level, path in files.items() if path is not None}

    def check_key(self, level: AccessLevel, headers: dict[bytes, bytes]) -> None:
        """Check the key of a request.

        Raises:
            RequestError: The key is missing or unknown (401), or administration is off (403).
        """
        if level == "open":
            return
        keys = self._keys.get(level)
        if keys is None and level == "admin":
            raise RequestError(
                403, "admin_off", "administration is off; start with --admin-key-file"
            )
        if keys is not None and not keys.allows(headers):
            raise RequestError(
                401,
                "unauthorized",
                f"missing or unknown key; send {_EXPECTED[level]} as Authorization: Bearer KEY",
                headers=((b"www-authenticate", b"Bearer"),),
            )

    def has_key(self, headers: dict[bytes, bytes]) -> bool:
        """Whether a request may read what needs an API key."""
        keys = self._keys.get("key")
        return keys is None or keys.allows(headers)

    def refresh(self) -> None:
        """Reload key files that changed."""
        for keys in self._keys.values():
            keys.refresh()
