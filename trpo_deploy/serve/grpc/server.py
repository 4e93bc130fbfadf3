"""gRPC's core in a worker.

It listens on a Unix socket only; :mod:`connection` passes the clients' connections on to it.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import grpc

from trpo_deploy.serve.grpc.connection import Connections
from trpo_deploy.serve.grpc.service import InferenceService
from trpo_deploy.serve.http.edge import Edge
from trpo_deploy.serve.settings import Settings

_IDLE_S = 65
"""As for HTTP: longer than the minute after which load balancers close idle connections."""
_PING_S = 20
"""Clients that are gone are found by pings, as for WebSockets."""
_CLIENTS_PING_S = 5
"""A client that pings more often is disconnected."""
_LAST_CALLS_S = 1
"""Longer than a client needs to learn that it must begin no more calls."""
_CLIENT_GONE = "ExecuteBatchError raised"
"""How grpcio's error begins if a client goes away while its reply is sent."""


def _log_if_error(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_CLIENT_GONE)


logging.getLogger("grpc._cython.cygrpc").addFilter(_log_if_error)


class GrpcServer:
    """Serves the gRPC calls of a worker.

    Args:
        edge: The HTTP side of the worker. Its models are loaded.
        settings: The limits.
        core: Path of the Unix socket. A socket that a killed worker left there is replaced.

    Attributes:
        connections: The clients'.
        waits: The calls that wait for their clients.
    """

    def __init__(self, edge: Edge, settings: Settings, core: Path) -> None:
        # A gateway may send the calls and the streams of all its clients through one connection.
        max_streams = 2 * settings.max_concurrent
        self.connections = Connections(
            str(core), settings.max_body_bytes, settings.max_bytes_in_flight, max_streams
        )
        self._service = InferenceService(edge, settings, self.connections)
        self.waits = self._service.waits
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", settings.max_body_bytes),
                ("grpc.max_concurrent_streams", max_streams),
                # Compressed messages are refused, as over HTTP: they may hold a thousand times as
                # many bytes as they have.
                ("grpc.compression_enabled_algorithms_bitset", 1),
                # The core keeps 64 KiB of a message that nobody waits for, and not more when the
                # network is fast.
                ("grpc.http2.bdp_probe", 0),
                ("grpc.server_handshake_timeout_ms", 1000 * max(1, settings.slow_client_seconds)),
                ("grpc.max_connection_idle_ms", 1000 * _IDLE_S),
                ("grpc.keepalive_time_ms", 1000 * _PING_S),
                ("grpc.keepalive_timeout_ms", 1000 * _PING_S),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 1000 * _CLIENTS_PING_S),
            ]
        )
        self._server.add_generic_rpc_handlers([self._service])
        self._server.add_insecure_port(f"unix:{core}")

    async def start(self) -> None:
        """Begin to answer calls."""
        await self._server.start()

    async def wait(self) -> None:
        """Wait until the core has stopped.

        Raises:
            Exception: It has stopped because of an error.
        """
        await self._server.wait_for_termination()

    async def stop(self, seconds: float) -> None:
        """Finish the calls in flight.

        The core cancels calls that reach it while it stops. So clients are first asked to begin no
        more, and what they have sent until then is answered.

        Args:
            seconds: Time for the calls in flight after that.
        """
        for connection in self.connections.open:
            connection.end()
        self._service.end_streams()
        if self.connections.open:
            await asyncio.sleep(_LAST_CALLS_S)
        await self._server.stop(seconds)
        for connection in list(self.connections.open):
            connection.transport.close()
