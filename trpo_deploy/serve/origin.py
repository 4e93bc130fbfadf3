"""Web origins and host names as browsers write them; others would never match a header."""

from __future__ import annotations

from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


def check_origin(text: str) -> None:
    """Check that a browser could send this ``Origin``.

    Args:
        text: An origin such as ``https://game.example``, ``null``, or ``*`` for all.

    Raises:
        ValueError: No browser writes it this way; the message has the right form.
    """
    if text in ("*", "null"):
        return
    try:
        right = _origin_of(text if "://" in text else f"https://{text}")
    except ValueError as error:
        raise ValueError(
            f"{text!r} is not an origin such as https://game.example ({error})"
        ) from error
    if right != text:
        raise ValueError(f"no browser sends the origin {text!r}; write {right!r}")


def check_host_name(text: str) -> None:
    """Check that ``text`` is a host name or address without scheme and port, or ``*``.

    Raises:
        ValueError: It is not; the message has the right form.
    """
    if text == "*":
        return
    if ":" in text and "://" not in text and text.strip("[]").count(":") > 1:
        return  # an IPv6 address
    try:
        right = _host_of(text if "://" in text else f"http://{text}")
    except ValueError as error:
        raise ValueError(f"{text!r} is not a host name ({error})") from error
    if right != text.lower():
        raise ValueError(f"{text!r} is not a host name; write {right!r}")


def _origin_of(url: str) -> str:
    """The origin of a URL, as browsers serialize it (RFC 6454, section 6.2)."""
    parts = urlsplit(url)
    host, scheme = _host_of(url), parts.scheme.lower()
    port = parts.port  # raises ValueError if it is not a number up to 65535
    tail = "" if port is None or port == _DEFAULT_PORTS.get(scheme) else f":{port}"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}{tail}"


def _host_of(url: str) -> str:
    """The host of a URL in lower case, in ASCII."""
    host = urlsplit(url).hostname or ""
    if not host:
        raise ValueError("it has no host")
    if "*" in host or any(char.isspace() for char in host):
        raise ValueError("a host may not contain blanks or *; name each one")
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError as error:
        raise ValueError("its host is not a valid name") from error
