"""The processes that share a training run, and the messages between them.

Each process is a *rank*. Rank ``r`` of ``size`` has the r-th part of the environments. Messages go
over gloo, for tensors on a GPU over NCCL (see :mod:`trpo_deploy.train.distributed.launch`), and
small sums over :mod:`~trpo_deploy.train.distributed.links`. Nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from trpo_deploy.errors import TrainingError
from trpo_deploy.train.distributed.links import MAX_BYTES, Links


class LostConnectionError(TrainingError):
    """A message to or from another rank failed: the rank ended, or the network did."""


@dataclass
class World:
    """This process among the ranks of a run; a process alone is a world of size 1.

    All ranks call the same methods in the same order.

    Raises:
        LostConnectionError: From each method, if a message fails.
    """

    rank: int = 0
    size: int = 1
    messages: int = 0
    """Messages of this rank so far; a reduction counts as one."""
    message_bytes: int = 0
    """Bytes of the tensors in these messages."""
    links: Links | None = None
    """For small sums; without them gloo carries these too."""

    def rows(self, n: int) -> slice:
        """The part of this rank, of a batch with ``n`` rows for each rank."""
        return slice(self.rank * n, (self.rank + 1) * n)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the ranks, written into ``values``; the same bits on each rank."""
        if self.size > 1:
            with self._message(values):
                if self.links and values.device.type == "cpu" and values.nbytes <= MAX_BYTES:
                    self.links.sum(values.numpy())
                else:
                    dist.all_reduce(values)
        return values

    def broadcast(self, values: Tensor) -> None:
        """Overwrite ``values`` with those of rank 0."""
        if self.size > 1:
            with self._message(values):
                dist.broadcast(values, src=0)

    def gather_rows(self, values: Tensor) -> Tensor:
        """The rows of all ranks in the order of the ranks; each rank has the same number."""
        if self.size == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.size)]
        with self._message(values):
            dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    def broadcast_bytes(self, data: bytes = b"") -> bytes:
        """The bytes that rank 0 gave."""
        if self.size == 1:
            return data
        length = torch.tensor([len(data)])
        self.broadcast(length)
        content = (
            _to_tensor(data) if self.rank == 0 else torch.empty(int(length), dtype=torch.uint8)
        )
        self.broadcast(content)
        return content.numpy().tobytes()

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """On rank 0 the bytes of each other rank, in their order; elsewhere an empty list."""
        if self.size == 1:
            return []
        if self.rank > 0:
            for part in (torch.tensor([len(data)]), _to_tensor(data)):
                with self._message(part):
                    dist.send(part, dst=0)
            return []
        return [self._receive(rank) for rank in range(1, self.size)]

    def _receive(self, rank: int) -> bytes:
        length = torch.empty(1, dtype=torch.int64)
        with self._message(length):
            dist.recv(length, src=rank)
        content = torch.empty(int(length), dtype=torch.uint8)
        with self._message(content):
            dist.recv(content, src=rank)
        return content.numpy().tobytes()

    @contextmanager
    def _message(self, values: Tensor) -> Iterator[None]:
        self.messages += 1
        self.message_bytes += values.nbytes
        try:
            yield
        except (RuntimeError, OSError) as error:  # of torch.distributed, and of the links
            text = " ".join(str(error).split()).partition(". This may")[0]
            reason = text.rpartition("] ")[2]  # without gloo's source file
            raise LostConnectionError(
                f"rank {self.rank} of {self.size} lost the connection to another rank ({reason}); "
                "start the run again to resume from its checkpoint"
            ) from error


def _to_tensor(data: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(bytearray(data), np.uint8))


_current = World()


def world() -> World:
    """The ranks that this process belongs to."""
    return _current


def enter_world(new: World) -> None:
    """Make :func:`world` return ``new``."""
    global _current
    _current = new
