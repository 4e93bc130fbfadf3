from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.serve.server import Server


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[Any]:
    """A channel to the server of the whole session."""
    with grpc.insecure_channel(server.grpc) as channel:
        yield channel
