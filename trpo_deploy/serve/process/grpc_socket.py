"""Where gRPC's core of each worker listens."""

from __future__ import annotations

from pathlib import Path

from trpo_deploy.errors import ServeError

_MAX_BYTES = 107
"""Longest path of a Unix socket."""


def grpc_socket(store: Path, slot: int) -> Path:
    """The Unix socket of a worker, in a folder that only this user can read."""
    return store / f"grpc-{slot}.sock"


def check_grpc_socket(store: Path, workers: int) -> None:
    """Check that the workers can listen there.

    Raises:
        ServeError: The path is too long.
    """
    length = len(bytes(grpc_socket(store, workers)))
    if length > _MAX_BYTES:
        raise ServeError(
            f"sockets in {store} would have paths of {length} bytes, at most {_MAX_BYTES} are "
            "possible; set TMPDIR to a shorter one"
        )
