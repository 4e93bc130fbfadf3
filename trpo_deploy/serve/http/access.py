"""Access control: which requests need which key, and which origins may open WebSockets."""

from __future__ import annotations

from typing import Literal, TypeAlias

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.http.key_file import KeyFile
from trpo_deploy.serve.settings import Settings

AccessLevel: TypeAlias = Literal["open", "key", "admin"]
"""``open`` needs no key, ``key`` one of the API keys if there are any, ``admin`` an admin key."""


class AccessControl:
    """Checks keys and origins.

    Args:
        settings: The key files and allowed origins.

    Raises:
        ServeError: A key file is invalid.
    """

    def __init__(self, settings: Settings) -> None:
        self._origins = settings.cors_origins
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
                "missing or unknown key; send Authorization: Bearer KEY",
                headers=((b"www-authenticate", b"Bearer"),),
            )

    def check_origin(self, headers: dict[bytes, bytes]) -> None:
        """Refuse WebSockets of other origins. Browsers leave this check to the server.

        Raises:
            RequestError: The origin is neither the service's nor allowed (403).
        """
        origin = headers.get(b"origin", b"").decode("latin-1")
        if not origin or "*" in self._origins or origin in self._origins:
            return
        if origin.partition("://")[2] != headers.get(b"host", b"").decode("latin-1"):
            raise RequestError(
                403,
                "origin_not_allowed",
                "pages of this origin may not connect; allow it with --cors-origin",
                field="origin",
                received=origin,
            )

    def refresh(self) -> None:
        """Reload key files that changed.

        Raises:
            OSError: A file disappeared while it was read.
        """
        for keys in self._keys.values():
            keys.refresh()
