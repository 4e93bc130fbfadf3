"""Messages between supervisor, zygote and workers: one JSON object a packet.

A channel is a pair of Unix sockets. A packet arrives whole or not at all, so there is nothing to
frame. The end of a process closes its end, which the other end sees at once.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from typing import Any, TypeAlias

Packet: TypeAlias = dict[str, Any]

_MAX_BYTES = 64 * 1024
_MAX_FDS = 4


def open_channel() -> tuple[socket.socket, socket.socket]:
    """The two ends of a new channel."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, packet: Packet, fds: Sequence[int] = ()) -> bool:
    """Send a packet, and optionally file descriptors.

    Returns:
        False if the other process has ended, or does not read and its queue is full.

    Raises:
        ValueError: The packet is longer than the other end reads.
    """
    data = json.dumps(packet).encode()
    if len(data) > _MAX_BYTES:
        raise ValueError(f"a packet of {len(data)} bytes, expected at most {_MAX_BYTES}")
    try:
        socket.send_fds(end, [data], list(fds))
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        return False
    return True


def receive(end: socket.socket) -> Packet | None:
    """Receive a packet.

    Returns:
        The packet, or None if the other process has ended.

    Raises:
        BlockingIOError: The channel is non-blocking and no packet has arrived.
    """
    return receive_with_fds(end)[0]


def receive_with_fds(end: socket.socket) -> tuple[Packet | None, list[int]]:
    """Receive a packet and the file descriptors that came with it."""
    try:
        data, fds, _, _ = socket.recv_fds(end, _MAX_BYTES, _MAX_FDS)
    except ConnectionResetError:
        return None, []
    return (json.loads(data) if data else None), fds
