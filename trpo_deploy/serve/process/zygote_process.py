"""The zygote, as its supervisor sees it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from trpo_deploy.serve.process.channel import open_channel, send
from trpo_deploy.serve.process.connection_counts import create_counts_file
from trpo_deploy.serve.process.plan import SINGLE_THREADED, Plan


class ZygoteProcess:
    """Starts the zygote, again if it has died, and asks it for workers.

    Args:
        listeners: The listening sockets of HTTP and, if it is served, of gRPC.
        environment: Environment variables of zygote and workers.
        workers: Number of workers.
        tls: PEM files of the certificate chain and its private key, for HTTPS.

    Attributes:
        channel: Its packets.
        running: Whether it has not ended, as far as is known.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        environment: Mapping[str, str],
        workers: int,
        tls: tuple[Path, Path] | None,
    ) -> None:
        self._environment = {**environment, **SINGLE_THREADED}
        self._workers = workers
        self._tls = tls and (str(tls[0].absolute()), str(tls[1].absolute()))
        # One file for all zygotes: workers outlive theirs.
        self._ports = [(each.fileno(), create_counts_file(workers)) for each in listeners]
        self.running = False

    def start(self) -> socket.socket:
        """Start the process. Requests wait until it has imported everything.

        Returns:
            The channel to read from.
        """
        self.channel, theirs = open_channel()
        with theirs:
            fds = (theirs.fileno(), *chain(*self._ports))
            http, *grpc = self._ports
            plan = Plan(theirs.fileno(), http, (*grpc, None)[0], self._workers, self._tls)
            module = "trpo_deploy.serve.process.zygote"
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", module, plan.to_json()],
                pass_fds=fds,
                env=self._environment,
                stdin=subprocess.DEVNULL,
            )
        self.channel.setblocking(False)
        self.running = True
        return self.channel

    def fork(self, slot: int, deaths: int, control_fd: int) -> None:
        """Ask for a worker. If the zygote has died, the worker's channel ends.

        Args:
            slot: Index of the worker.
            deaths: How many workers of this slot have died since the last one that was ready.
            control_fd: The worker's end of its channel.
        """
        send(self.channel, {"kind": "fork", "slot": slot, "deaths": deaths}, [control_fd])

    def close_listeners(self) -> None:
        """Let connections be refused once all workers have closed the listening sockets too."""
        if self.running:
            send(self.channel, {"kind": "close"})

    def reap(self) -> None:
        """Clean up after the process has ended."""
        self.running = False
        self.channel.close()
        self._process.wait()

    def kill(self) -> None:
        """End the process. Its workers go on."""
        if self.running:
            self._process.kill()

    def stop(self) -> None:
        """End the process for good."""
        self.kill()
        if self.running:
            self.reap()
        for _, counts in self._ports:
            os.close(counts)
