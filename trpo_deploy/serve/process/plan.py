"""What the supervisor tells the zygote at its start."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TypeAlias

SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
"""Environment in which the imports start no thread. A user's ``ORT_DISABLE_TELEMETRY=0``, which the
package respects elsewhere, would break the fork."""


Port: TypeAlias = tuple[int, int]
"""File descriptors of a listening socket and of the workers' numbers of connections to it."""


@dataclass(frozen=True)
class Plan:
    """What all workers have in common. The file descriptors are inherited."""

    supervisor_fd: int
    """Channel to the supervisor."""
    http: Port
    grpc: Port | None
    workers: int
    tls: tuple[str, str] | None
    """Certificate chain and key."""

    @property
    def listeners(self) -> list[int]:
        """The listening sockets."""
        return [port[0] for port in (self.http, self.grpc) if port is not None]

    def to_json(self) -> str:
        """The plan as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what :meth:`to_json` wrote."""
        fields = json.loads(text)
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return cls(**{**fields, **lists})
