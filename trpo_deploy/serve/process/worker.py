"""One worker process: BentoML's application on uvicorn, with uvloop and httptools, and gRPC's core.

The zygote forks it. All workers share the listening sockets. A worker stops when the supervisor
says so or has ended, and on SIGTERM, after a time in which ``/readyz`` answers 503.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from trpo_deploy.serve import metrics
from trpo_deploy.serve.http.background import background
from trpo_deploy.serve.http.connection import Connection
from trpo_deploy.serve.http.health import draining
from trpo_deploy.serve.http.websocket_protocol import WebSocketProtocol
from trpo_deploy.serve.process.acceptor import HTTP_REFUSAL, Acceptor, free_descriptors
from trpo_deploy.serve.process.connection_counts import ConnectionCounts
from trpo_deploy.serve.process.control import Control
from trpo_deploy.serve.process.grpc_socket import grpc_socket
from trpo_deploy.serve.process.logs import configure_logs
from trpo_deploy.serve.process.metric_files import use_files_of
from trpo_deploy.serve.process.plan import Plan, Port
from trpo_deploy.serve.process.service import EdgeService, PolicyService, load_by, open_registry
from trpo_deploy.serve.process.slow_clients import SlowClients
from trpo_deploy.serve.process.tls import Certificate
from trpo_deploy.serve.settings import Settings

if TYPE_CHECKING:
    from trpo_deploy.serve.grpc.server import GrpcServer

_KEEP_ALIVE_S = 65
"""Longer than the minute after which load balancers close idle connections."""
_GRACE_S = 30
"""Time for requests in flight after the worker stops accepting new ones."""
_MODELS = "models"
_log = logging.getLogger(__name__)


def run_worker(
    plan: Plan, slot: int, deaths: int, control_end: socket.socket, certificate: Certificate | None
) -> None:
    """Serve until the supervisor or SIGTERM stops the worker.

    Args:
        plan: What all workers have in common.
        slot: Index of this worker.
        deaths: How many workers of this slot have died since the last one that was ready.
        control_end: Channel to the supervisor.
        certificate: For HTTPS.
    """
    settings = Settings()
    configure_logs(settings.log_format, f"worker {slot + 1}")
    use_files_of(slot)
    metrics.count_models(slot == 0)
    WebSocketProtocol.max_bytes_in_flight = settings.max_bytes_in_flight
    assert isinstance(PolicyService, EdgeService)
    server = _Server(PolicyService, plan, slot, deaths, settings, control_end, certificate)
    server.run()
    metrics.publish()


class _Server(uvicorn.Server):
    def __init__(
        self,
        service: EdgeService,
        plan: Plan,
        slot: int,
        deaths: int,
        settings: Settings,
        end: socket.socket,
        certificate: Certificate | None,
    ) -> None:
        self._service = service
        self._plan = plan
        self._slot = slot
        self._deaths = deaths
        self._settings = settings
        self._control = Control(
            end,
            generation=lambda: open_registry().generation,
            on_look=lambda: background.look_now(_MODELS),
            on_stop=self._stop,
        )
        load_by(self._control.load)
        self._certificate = certificate
        self._acceptors: list[Acceptor] = []
        self._grpc: GrpcServer | None = None
        super().__init__(
            uvicorn.Config(
                service.to_asgi(),
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
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Load the models, accept connections, and tell the supervisor."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(1)
        self.servers = []
        places, grpc = free_descriptors(), self._plan.grpc
        if grpc is not None:
            places //= 2
            await self._start_grpc(grpc, places)
        self._start_http(self._plan.http, places)
        if self._certificate is not None:
            background.start_in_thread("TLS certificate", self._certificate.refresh)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop, True)
        metrics.WORKER_RESTARTS.inc(self._deaths)
        self._control.start()
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the requests in flight."""
        for acceptor in self._acceptors:
            acceptor.close()
        grpc = [] if self._grpc is None else [self._grpc.stop(_GRACE_S)]
        await asyncio.gather(super().shutdown(sockets), *grpc)

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn every 0.1 s."""
        for acceptor in self._acceptors:
            acceptor.tell_count()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Without uvicorn's handlers: the supervisor says when to stop."""
        yield

    async def _start_grpc(self, port: Port, places: int) -> None:
        """Accept connections of gRPC.

        Args:
            port: Its listening socket.
            places: Number of file descriptors for them.
        """
        from trpo_deploy.serve.grpc.connection import GrpcConnection
        from trpo_deploy.serve.grpc.server import GrpcServer

        settings = self._settings
        assert settings.model_store is not None
        core = grpc_socket(settings.model_store, self._slot)
        self._grpc = GrpcServer(self._service.edge, settings, core)
        await self._grpc.start()
        self._grpc_end = asyncio.create_task(self._grpc.wait())
        self._grpc_end.add_done_callback(self._check_grpc_end)
        connections = self._grpc.connections
        tls = self._certificate
        self._accept(
            port,
            lambda: GrpcConnection(connections),
            connections.open,
            # Each takes three: to the client, and both ends of the connection to the core.
            places // 3,
            None if tls is None else lambda: tls.http2,
        )
        slow = SlowClients(connections.open, settings.slow_client_seconds)
        background.start("slow gRPC clients", slow.check)
        background.start("slow gRPC calls", self._grpc.waits.close_slow)

    def _start_http(self, port: Port, places: int) -> None:
        """Accept connections of HTTP."""
        connections, tls = self.server_state.connections, self._certificate
        context = None if tls is None else lambda: tls.context
        self._accept(port, self._make_protocol, connections, places, context, HTTP_REFUSAL)
        slow = SlowClients(connections, self._settings.slow_client_seconds)
        background.start("slow clients", slow.check)

    def _accept(
        self,
        port: Port,
        make_protocol: Callable[[], asyncio.Protocol],
        connections: Sized,
        places: int,
        tls: Callable[[], ssl.SSLContext] | None,
        refusal: bytes = b"",
    ) -> None:
        listener, counts = port
        acceptor = Acceptor(
            socket.socket(fileno=listener),
            make_protocol,
            connections,
            ConnectionCounts(counts, self._plan.workers, self._slot),
            tls,
            self._settings.slow_client_seconds,
            places,
            refusal if tls is None else b"",
        )
        acceptor.start()
        self._acceptors.append(acceptor)

    def _check_grpc_end(self, end: asyncio.Task[None]) -> None:
        """Stop the worker if gRPC has stopped without it: another one takes its place."""
        if not self.should_exit:
            error = None if end.cancelled() else end.exception()
            _log.error("gRPC has stopped, and this worker stops too: %r", error)
            self._stop(False)

    def _make_protocol(self) -> asyncio.Protocol:
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    def _stop(self, drain: bool) -> None:
        """Stop; after a time in which load balancers can see 503 at ``/readyz`` if ``drain``."""
        loop = asyncio.get_running_loop()
        if drain:
            draining.set()
            loop.call_later(self._settings.drain_seconds, self._stop, False)
        else:
            self.should_exit = True
