"""The listening socket that all workers share."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from trpo_deploy.errors import ServeError

_BACKLOG = 2048


@contextmanager
def listen(host: str, port: int, option: str = "--port") -> Iterator[socket.socket]:
    """Open a listening TCP socket.

    Args:
        host: Name or address of this machine.
        port: TCP port; 0 for any free one.
        option: The option that chooses the port, for messages.

    Raises:
        ServeError: The address is invalid or in use.
    """
    if not 0 <= port <= 65535:
        raise ServeError(f"port must be 0 to 65535, received {port}")
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ServeError(f"host {host!r} is not an address of this machine: {error}") from error
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            raise ServeError(
                f"cannot listen on {host} port {port}: {error.strerror}; stop the program that "
                f"uses it, or choose another port with {option}"
            ) from error
        yield listener


def url_of(listener: socket.socket, *, tls: bool) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
