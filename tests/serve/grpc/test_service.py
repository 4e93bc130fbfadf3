"""Large messages count until they are done, whatever their clients do meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.runtime.policy_files import write_policy
from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.grpc.connection import Connections
from trpo_deploy.serve.grpc.methods import Method
from trpo_deploy.serve.grpc.service import InferenceService, _Request
from trpo_deploy.serve.http.edge import Edge
from trpo_deploy.serve.messages import Reply
from trpo_deploy.serve.models.own_registry import own_registry
from trpo_deploy.serve.protocols.inference_v2.messages import MESSAGES
from trpo_deploy.serve.settings import Settings

MIB = 1 << 20
SMALL, LARGE = b"\x0a\x01x", b"\x0a" + b"\x80\x80\x40" + bytes(MIB)
"""Requests for models whose names have one byte and a MiB."""


async def no_application(*_: Any) -> None:
    raise AssertionError("not called")


def test_cancelled_calls_do_not_fill_the_memory(tmp_path: Path) -> None:
    settings = Settings(
        models=(write_policy(tmp_path / "cart" / "policy.onnx"),),
        max_body_bytes=2 * MIB,
        max_bytes_in_flight=4 * MIB,
    )
    registry, _ = own_registry(settings)
    edge = Edge(no_application, settings, lambda: registry)
    service = InferenceService(edge, settings, Connections("", 2 * MIB, 4 * MIB, 10))
    go_on = Event()

    def wait(_: Any) -> Reply:
        go_on.wait(60)
        return Reply(b"done")

    slow = Method("/slow", MESSAGES["InferRequest"], wait)
    fast = Method("/fast", MESSAGES["InferRequest"], lambda _: Reply(b"done"))

    async def attack() -> None:
        calls = []
        for _ in range(3):
            calls.append(asyncio.create_task(service._run(slow, _Request(LARGE))))
            await asyncio.sleep(0)
            calls[-1].cancel()
        assert all(
            isinstance(each, asyncio.CancelledError)
            for each in await asyncio.gather(*calls, return_exceptions=True)
        )
        assert edge.in_flight == 3
        with pytest.raises(RequestError, match="4194304 bytes of request bodies are in flight"):
            await service._run(slow, _Request(LARGE))
        assert (await service._run(fast, _Request(SMALL))).body == b"done"
        go_on.set()
        for _ in range(600):
            if not edge.in_flight:
                break
            await asyncio.sleep(0.1)
        assert edge.in_flight == 0
        assert (await service._run(slow, _Request(LARGE))).body == b"done"

    asyncio.run(attack())
