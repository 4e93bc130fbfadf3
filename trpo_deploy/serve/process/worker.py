"""One worker process: BentoML's application on uvicorn, with uvloop and httptools.

The supervisor starts it as ``python -m trpo_deploy.serve.process.worker LISTEN_FD CONTROL_FD
[TLS_CERT TLS_KEY]``. ``LISTEN_FD`` is the listening socket that all workers share. ``CONTROL_FD``
is a socket to the supervisor: the worker writes one byte when it is ready, and stops when the
other end closes, so no worker outlives its supervisor. SIGTERM also stops it, after a time in
which ``/readyz`` answers 503.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Sequence

import uvicorn

from trpo_deploy.serve.http.connection import Connection
from trpo_deploy.serve.http.health import draining
from trpo_deploy.serve.http.websocket_protocol import WebSocketProtocol
from trpo_deploy.serve.process.slow_clients import close_slow_clients
from trpo_deploy.serve.settings import Settings

_KEEP_ALIVE_S = 65
"""Longer than the minute after which load balancers close idle connections."""
_GRACE_S = 30
"""Time for requests in flight after the worker stops accepting new ones."""


def main(listen_fd: int, control_fd: int, tls: Sequence[str]) -> None:
    """Serve until the supervisor or SIGTERM stops the worker."""
    # A terminal sends Ctrl-C to the whole process group; only the supervisor handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")

    for name in ("trpo_deploy", "bentoml.access"):
        logging.getLogger(name).setLevel(logging.INFO)
    # It warns about each client that sends invalid HTTP: anyone could fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)

    from trpo_deploy.serve.process.service import EdgeService, PolicyService

    assert isinstance(PolicyService, EdgeService)
    settings = Settings()
    WebSocketProtocol.max_bytes_in_flight = settings.max_bytes_in_flight
    config = uvicorn.Config(
        PolicyService.to_asgi(),
        loop="uvloop",
        http=Connection,
        ws=WebSocketProtocol,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws_max_size=settings.max_body_bytes,
        ws_per_message_deflate=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=tls[0] if tls else None,
        ssl_keyfile=tls[1] if tls else None,
    )
    control = socket.socket(fileno=control_fd)
    server = _Server(config, control, settings)
    server.run(sockets=[socket.socket(fileno=listen_fd)])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, control: socket.socket, settings: Settings) -> None:
        super().__init__(config)
        self._control = control
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._drain)
        self._control.setblocking(False)
        loop.add_reader(self._control, self._stop)
        self._slow_clients = loop.create_task(
            close_slow_clients(self.server_state.connections, self._settings.slow_client_seconds)
        )
        self._control.send(b"+")

    def _drain(self) -> None:
        """Make ``/readyz`` answer 503, and stop when load balancers have had time to see it."""
        draining.set()
        loop = asyncio.get_running_loop()
        loop.call_later(self._settings.drain_seconds, self._stop)

    def _stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._control)
        self.should_exit = True


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
