"""How many connections each worker has, in memory that all workers share.

A worker compares its count with those of the others before it accepts a connection, so that
connections are spread evenly.
"""

from __future__ import annotations

import mmap
import os
from struct import Struct
from time import monotonic

_SLOT = Struct("=Id")
"""Number of connections, and when the worker last wrote it (s, monotonic clock)."""
_FRESH_S = 0.5
"""A worker that has not written for this long does not accept: it is stuck or has ended."""


def create_counts_file(workers: int) -> int:
    """File descriptor of a new, unnamed file for so many workers."""
    fd = os.memfd_create("connections")
    os.ftruncate(fd, workers * _SLOT.size)
    return fd


class ConnectionCounts:
    """The counts of all workers, seen from one.

    Args:
        fd: The file.
        workers: Number of workers.
        slot: Index of this worker.
    """

    def __init__(self, fd: int, workers: int, slot: int) -> None:
        self._memory = mmap.mmap(fd, workers * _SLOT.size)
        self._own = slot * _SLOT.size
        self._others = [i * _SLOT.size for i in range(workers) if i != slot]

    def write(self, count: int) -> None:
        """Tell the others the count of this worker. Call it at least every 0.2 s."""
        _SLOT.pack_into(self._memory, self._own, count, monotonic())

    def least_of_others(self) -> int | None:
        """The smallest count of the other workers that accept connections, if there are any."""
        oldest = monotonic() - _FRESH_S
        least = None
        for offset in self._others:
            count, written = _SLOT.unpack_from(self._memory, offset)
            if written > oldest and (least is None or count < least):
                least = count
        return least
