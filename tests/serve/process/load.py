"""Clients that send requests until they are told to stop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from threading import Event, Thread
from urllib.parse import urlsplit

import psutil

from tests.serve.server import Server

BODY = b'{"observation":[1,2,3,4]}'
HEADERS = {"content-type": "application/json"}


class Client:
    """One connection, on which requests are sent one after the other from a thread."""

    def __init__(self, server: Server) -> None:
        address = urlsplit(server.url)
        self._connection = HTTPConnection(str(address.hostname), address.port, timeout=60)
        self._connection.connect()
        self.port = self._connection.sock.getsockname()[1]
        self.answered = 0
        self.failure: str | None = None
        self._stop = Event()
        self._thread = Thread(target=self._run)

    def ask(self) -> None:
        """Send one request and read its answer."""
        self._connection.request("POST", "/predict", BODY, HEADERS)
        response = self._connection.getresponse()
        text = response.read()
        if response.status != 200:
            self.failure = repr(text)
        self.answered += 1

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(90)
        self._connection.close()

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and self.failure is None:
                self.ask()
        except (OSError, HTTPException) as error:
            self.failure = repr(error)


@contextmanager
def clients(server: Server, number: int) -> Iterator[list[Client]]:
    """Clients that have been answered once, so that a worker has each connection."""
    made = [Client(server) for _ in range(number)]
    try:
        for client in made:
            client.ask()
            client.start()
        yield made
    finally:
        for client in made:
            client.stop()


def worker_of(client: Client, workers: list[psutil.Process]) -> psutil.Process:
    """The worker that has a client's connection."""
    (found,) = [
        worker
        for worker in workers
        if any(c.raddr and c.raddr.port == client.port for c in worker.net_connections("tcp"))
    ]
    return found
