"""The messages between the robot and its controller: UDP, little-endian.

==============  ==============================================================================
message         content
==============  ==============================================================================
hello           three lines: period in seconds, names of sensors, names of motors; names in the
                driver's order, with tabs between them
ready           the text ``ready``, in answer to hello
observation     stamp in the robot's seconds (float64), a float64 for each sensor
torques         a float64 for each motor, in N m
bye             the text ``bye``: the robot ends
==============  ==============================================================================
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

READY = b"ready"
BYE = b"bye"
_LARGEST = 65536
_STAMP = struct.Struct("<d")


class Hello(NamedTuple):
    """What a robot tells about itself."""

    period: float
    sensors: Sequence[str]
    motors: Sequence[str]


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


def pack_hello(hello: Hello) -> bytes:
    """The robot's first message."""
    names = ("\t".join(each) for each in (hello.sensors, hello.motors))
    return "\n".join([str(hello.period), *names]).encode()


def unpack_hello(message: bytes) -> Hello:
    """What a robot tells.

    Raises:
        ValueError: It is another message.
    """
    lines = message.decode(errors="replace").split("\n")
    if len(lines) != 3:
        raise ValueError("expected a hello of three lines, received another message")
    period, sensors, motors = lines
    return Hello(float(period), sensors.split("\t"), motors.split("\t"))


def pack_observation(stamp: float, values: Sequence[float]) -> bytes:
    """An observation."""
    return _STAMP.pack(stamp) + pack_numbers(values)


def is_observation(message: bytes, sensors: int) -> bool:
    """Whether it has the size of an observation; a second hello does not."""
    return len(message) == _STAMP.size + 8 * sensors


def unpack_observation(message: bytes) -> tuple[float, tuple[float, ...]]:
    """Stamp and numbers of an observation."""
    return _STAMP.unpack_from(message)[0], unpack_numbers(message[_STAMP.size :])


def pack_numbers(values: Sequence[float]) -> bytes:
    """Some numbers."""
    return struct.pack(f"<{len(values)}d", *values)


def unpack_numbers(message: bytes) -> tuple[float, ...]:
    """Numbers of a message."""
    return struct.unpack(f"<{len(message) // 8}d", message)
