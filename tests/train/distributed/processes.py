"""Starts the ranks of a run as processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence


def start_ranks(
    command: Sequence[object], size: int = 2, **variables: str
) -> list[subprocess.Popen[str]]:
    """Start ``python COMMAND`` once for each rank, with the variables that torchrun sets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**os.environ, **shared, "RANK": str(rank), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
