"""What the supervisor tells the zygote at its start."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
"""Environment in which the imports start no thread. A user's ``ORT_DISABLE_TELEMETRY=0``, which the
package respects elsewhere, would break the fork."""


@dataclass(frozen=True)
class Plan:
    """What all workers have in common. The file descriptors are inherited."""

    supervisor_fd: int
    """Channel to the supervisor."""
    listener_fd: int
    """The listening socket."""
    counts_fd: int
    """File of the workers' connection counts."""
    workers: int
    tls: tuple[str, str] | None
    """Certificate chain and key."""

    def to_json(self) -> str:
        """The plan as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what :meth:`to_json` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "tls": fields["tls"] and tuple(fields["tls"])})
