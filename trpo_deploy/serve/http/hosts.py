"""Which host names and which web pages may use the service.

A page can point its own host name at this machine (DNS rebinding); the browser then takes the
service for the page's own. The name is still in the ``Host`` and ``Origin`` headers, so they are
compared with the names that the service is known by. An address needs no such check: it does
not go through DNS.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.messages import Scope
from trpo_deploy.serve.settings import Settings

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{0,255})(?::[0-9]{0,5})?")


class AllowedHosts:
    """Checks the headers ``Host`` and ``Origin``.

    Args:
        settings: The allowed hosts and origins.
    """

    def __init__(self, settings: Settings) -> None:
        hosts = settings.allowed_hosts
        self._check_host = bool(hosts) and "*" not in hosts
        self._any_own_origin = "*" in hosts
        self._names = frozenset(host for host in hosts if not _is_local_or_address(host))
        self._origins = settings.cors_origins
        self._is_allowed_host = lru_cache(256)(self._allows_host)

    def check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Check the host of a request.

        Raises:
            RequestError: It is missing, ambiguous or invalid (400), or not allowed (403).
        """
        host = headers.get(b"host")
        # As many headers as names: none came twice.
        if host is None or len(headers) != len(scope["headers"]):
            count = sum(name == b"host" for name, _ in scope["headers"])
            if count > 1 or (count == 0 and scope["http_version"] != "1.0"):
                raise RequestError(
                    400,
                    "bad_host",
                    f"HTTP/1.1 requires one Host header, received {count}",
                    field="host",
                    expected="one header",
                    received=str(count),
                )
        if host is not None and not self._is_allowed_host(host):
            raise RequestError(
                403,
                "host_not_allowed",
                "the service does not answer under this host name; allow it with --allowed-host",
                field="host",
                received=_text(host)[:100],
            )

    def check_origin(self, headers: dict[bytes, bytes]) -> None:
        """Refuse pages that neither the service serves nor the settings allow.

        Browsers leave this check to the server for WebSockets. Programs send no ``Origin``.

        Raises:
            RequestError: The origin is not allowed (403).
        """
        if not headers.get(b"origin"):
            return
        origin = _text(headers[b"origin"])
        if "*" in self._origins or origin in self._origins:
            return
        authority = origin.partition("://")[2]
        name = _name_of(authority)
        if name in self._names:
            return
        is_own = bool(name) and authority == _text(headers.get(b"host", b""))
        if is_own and (self._any_own_origin or _is_local_or_address(name or "")):
            return
        raise RequestError(
            403,
            "origin_not_allowed",
            "pages of this origin may not use the service; allow it with --cors-origin, or its "
            "host with --allowed-host",
            field="origin",
            received=origin,
        )

    def _allows_host(self, host: bytes) -> bool:
        name = _name_of(_text(host))
        if name is None:
            raise RequestError(
                400, "bad_host", "the Host header is not a host and port", field="host"
            )
        return not self._check_host or name in self._names or _is_local_or_address(name)


def hosts_of_listener(host: str, allowed: Sequence[str]) -> tuple[str, ...]:
    """The allowed hosts of a service that listens on ``host``.

    On one address, the service is known by that name and those in ``allowed``. On all addresses
    its names are unknown, so none are added; without any in ``allowed``, ``Host`` is not checked.
    """
    name = host.lower().strip("[]")
    if not name or (_is_address(name) and ip_address(name).is_unspecified):
        return tuple(allowed)
    return (*allowed, name)


def _text(value: bytes) -> str:
    return value.decode("latin-1").lower()


def _name_of(authority: str) -> str | None:
    """The host in ``host:port``, without brackets and a final dot; None if it is invalid."""
    match = _AUTHORITY.fullmatch(authority)
    return None if match is None else match[1].strip("[]").removesuffix(".")


def _is_local_or_address(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost") or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
