"""Direct connections between the ranks, for sums of a few numbers.

A normalizer sums a few numbers in each step of the environments, so latency counts. gloo hands a
reduction from thread to thread, which takes longer than the message itself. Here each rank sends
its numbers to all others and adds those that arrive.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from secrets import token_hex
from typing import TYPE_CHECKING

import numpy as np

from trpo_deploy.spec.spaces import Array

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

MAX_BYTES = 4096
"""Largest message. It fits into the buffers of a connection, so ranks that all send first cannot
block each other."""
_SETUP_S = 10.0
"""Time to connect. A network may forbid these connections; gloo then carries all messages."""
_HELLO_S = 2.0
_SETUP = timedelta(seconds=_SETUP_S)
_KEY, _ADDRESS = "links/key", "links/address"
_NOBODY = "0 "
"""Address of a rank that cannot be reached; a connection to it fails at once."""
_KEY_BYTES, _RANK_BYTES = 32, 4


class Links:
    """A connection to each other rank.

    Args:
        peers: The connections, by rank.
        rank: This rank.
        timeout_s: Seconds that a rank waits for a message.
    """

    def __init__(self, peers: Mapping[int, socket.socket], rank: int, timeout_s: float) -> None:
        self._peers = peers
        self._rank = rank
        for peer in peers.values():
            peer.settimeout(timeout_s)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def sum(self, values: Array) -> None:
        """Sum over the ranks, written into ``values``; the same bits on each rank.

        Args:
            values: Contiguous array of at most :data:`MAX_BYTES`.

        Raises:
            OSError: A rank has closed its connection, or sent nothing in time.
        """
        own = values.reshape(-1)
        for peer in self._peers.values():
            peer.sendall(own.data)
        rows = np.empty((len(self._peers) + 1, own.size), own.dtype)
        rows[self._rank] = own
        for rank, peer in self._peers.items():
            _receive(peer, memoryview(rows[rank]).cast("B"))
        rows.sum(axis=0, out=own)

    def close(self) -> None:
        """Close the connections; sums of the other ranks fail."""
        for peer in self._peers.values():
            peer.close()


def connect(store: Store, rank: int, size: int, timeout_s: float) -> Links | None:
    """Connect to all other ranks; None if a connection fails.

    Args:
        store: The store of this start, see :mod:`~trpo_deploy.train.distributed.meeting`.
        rank: This rank.
        size: Number of ranks.
        timeout_s: Seconds that a rank waits for a message later on.
    """
    peers: dict[int, socket.socket] = {}
    try:
        if rank == 0:
            store.set(_KEY, token_hex(_KEY_BYTES // 2))
        with _listener() as listener:
            host, port = listener.getsockname()[:2]
            store.set(f"{_ADDRESS}/{rank}", f"{port} {host}")
            store.wait([_KEY, *(f"{_ADDRESS}/{other}" for other in range(rank))], _SETUP)
            key = store.get(_KEY)
            for other in range(rank):
                peers[other] = _call(store.get(f"{_ADDRESS}/{other}").decode(), key, rank)
            _answer(listener, key, peers, size)
    except (OSError, RuntimeError):
        with suppress(RuntimeError):
            store.set(f"{_ADDRESS}/{rank}", _NOBODY)
        for peer in peers.values():
            peer.close()
        return None
    return Links(peers, rank, timeout_s)


def _listener() -> socket.socket:
    """Listens on the address from which this machine reaches the one that keeps the store."""
    master = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    family, *_, address = socket.getaddrinfo(*master, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)  # sends nothing
        host = probe.getsockname()[0]
    return socket.create_server((host, 0), family=family, backlog=128)


def _call(address: str, key: bytes, rank: int) -> socket.socket:
    port, host = address.split(" ")
    peer = socket.create_connection((host, int(port)), timeout=_SETUP_S)
    peer.sendall(key + rank.to_bytes(_RANK_BYTES, "big"))
    return peer


def _answer(
    listener: socket.socket, key: bytes, peers: dict[int, socket.socket], size: int
) -> None:
    """Accept the higher ranks; drop connections of anybody else."""
    end = time.monotonic() + _SETUP_S
    while len(peers) < size - 1:
        listener.settimeout(max(end - time.monotonic(), 0.01))
        peer, _ = listener.accept()
        peer.settimeout(_HELLO_S)
        hello = bytearray(_KEY_BYTES + _RANK_BYTES)
        with suppress(OSError):
            _receive(peer, memoryview(hello))
        other = int.from_bytes(hello[_KEY_BYTES:], "big")
        if hello[:_KEY_BYTES] == key and other not in peers:
            peers[other] = peer
        else:
            peer.close()


def _receive(peer: socket.socket, buffer: memoryview) -> None:
    """Fill a buffer."""
    while buffer:
        n = peer.recv_into(buffer)
        if n == 0:
            raise ConnectionResetError("connection closed")
        buffer = buffer[n:]
