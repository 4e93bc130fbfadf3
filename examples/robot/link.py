"""The messages between the robot and its controller: UDP, little-endian.

==============  ==============================================================================
message         content
==============  ==============================================================================
hello           JSON: names of sensors and motors in the driver's order, period in seconds
ready           the text ``ready``, in answer to hello
observation     stamp in the robot's seconds (float64), a float64 for each sensor
torques         a float64 for each motor, in N m
bye             the text ``bye``: the robot ends
==============  ==============================================================================
"""

from __future__ import annotations

import json
import select
import socket
import struct
from collections.abc import Sequence
from typing import Any

READY = b"ready"
BYE = b"bye"
_LARGEST = 65536
_STAMP = struct.Struct("<d")


def receive(link: socket.socket, seconds: float) -> bytes | None:
    """The next message, or ``None`` if none comes in time."""
    if not select.select([link], [], [], max(0.0, seconds))[0]:
        return None
    return link.recv(_LARGEST)


def newest(link: socket.socket, seconds: float) -> bytes | None:
    """The last message that has arrived; waits if there is none yet."""
    message = receive(link, seconds)
    while message is not None and (following := receive(link, 0)) is not None:
        message = following
    return message


def pack_hello(sensors: Sequence[str], motors: Sequence[str], period: float) -> bytes:
    """The robot's first message."""
    return json.dumps({"sensors": sensors, "motors": motors, "period": period}).encode()


def unpack_hello(message: bytes) -> dict[str, Any]:
    """Names and period of the robot."""
    hello: dict[str, Any] = json.loads(message)
    return hello


def pack_observation(stamp: float, values: Sequence[float]) -> bytes:
    """An observation."""
    return _STAMP.pack(stamp) + pack_numbers(values)


def unpack_observation(message: bytes) -> tuple[float, tuple[float, ...]]:
    """Stamp and numbers of an observation."""
    return _STAMP.unpack_from(message)[0], unpack_numbers(message[_STAMP.size :])


def pack_numbers(values: Sequence[float]) -> bytes:
    """Some numbers."""
    return struct.pack(f"<{len(values)}d", *values)


def unpack_numbers(message: bytes) -> tuple[float, ...]:
    """Numbers of a message."""
    return struct.unpack(f"<{len(message) // 8}d", message)
