"""The direct connections between ranks."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.distributed import launch
from trpo_deploy.train.distributed import links as module
from trpo_deploy.train.distributed.links import MAX_BYTES, Links, connect
from trpo_deploy.train.distributed.world import LostConnectionError, World

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

TIMEOUT_S = 60.0


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")  # nothing is sent there
    store: Store = dist.HashStore()  # type: ignore[attr-defined]
    return store


def on_all(call: Callable[[int], Any], size: int) -> list[Any]:
    """Results of a call for each rank, all at the same time."""
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(call, range(size)))


@pytest.fixture(params=[2, 3, 5])
def linked(request: pytest.FixtureRequest, store: Store) -> Iterator[list[Links]]:
    size: int = request.param
    connected = on_all(lambda rank: connect(store, rank, size, TIMEOUT_S), size)
    yield connected
    for each in connected:
        each.close()


@pytest.mark.parametrize(
    "shape", [(), (1,), (7,), (3, 4), (MAX_BYTES // 8,)], ids=["scalar", "1", "7", "3x4", "full"]
)
def test_each_rank_gets_the_same_sum(linked: list[Links], shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    own = [np.asarray(rng.normal(size=shape)) for _ in linked]
    expected = np.sum(own, axis=0)
    for _ in range(3):  # one sum after the other, on the same connections
        values: list[Array] = [each.copy() for each in own]
        on_all(lambda rank: linked[rank].sum(values[rank]), len(linked))  # noqa: B023
        # An order of five additions changes the last bits only.
        np.testing.assert_allclose(values[0], expected, rtol=1e-12, atol=1e-12)
        assert len({each.tobytes() for each in values}) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_a_world_sums_small_tensors_over_its_links(linked: list[Links], dtype: torch.dtype) -> None:
    worlds = [World(rank, len(linked), links=each) for rank, each in enumerate(linked)]
    values = [torch.full((5,), rank + 1, dtype=dtype) for rank in range(len(linked))]
    on_all(lambda rank: worlds[rank].sum(values[rank]), len(linked))
    total = sum(range(1, len(linked) + 1))
    assert all(each.tolist() == [total] * 5 for each in values)
    assert {(each.messages, each.message_bytes) for each in worlds} == {(1, values[0].nbytes)}


def test_a_rank_that_has_left_is_a_lost_connection(linked: list[Links]) -> None:
    linked[0].close()
    worlds = [World(rank, len(linked), links=each) for rank, each in enumerate(linked)]
    with pytest.raises(LostConnectionError, match=r"rank 1 .*lost the connection"):
        worlds[1].sum(torch.ones(3))


def test_a_rank_that_sends_nothing_is_a_lost_connection(store: Store) -> None:
    first, second = on_all(lambda rank: connect(store, rank, 2, 0.2), 2)
    with pytest.raises(LostConnectionError, match="timed out"):
        World(0, 2, links=first).sum(torch.ones(3))
    for each in (first, second):
        each.close()


@pytest.mark.parametrize(
    "said", [b"", b"x" * 36, b"\0" * 36], ids=["nothing", "a wrong key", "zeros"]
)
def test_a_stranger_is_not_a_rank(
    store: Store, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HELLO_S", 0.2)
    strangers: list[socket.socket] = []
    call = module._call

    def after_a_stranger(address: str, key: bytes, rank: int) -> socket.socket:
        port, host = address.split(" ")
        strangers.append(socket.create_connection((host, int(port))))
        strangers[-1].sendall(said)
        return call(address, key, rank)

    monkeypatch.setattr(module, "_call", after_a_stranger)
    linked = on_all(lambda rank: connect(store, rank, 2, TIMEOUT_S), 2)
    values = [np.ones(2), np.full(2, 3.0)]
    on_all(lambda rank: linked[rank].sum(values[rank]), 2)
    assert [each.tolist() for each in values] == [[4.0, 4.0]] * 2
    for each in (*linked, *strangers):
        each.close()


def test_where_one_rank_cannot_listen_none_has_links(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = module._listener
    numbers = iter([True])

    def fails_once() -> socket.socket:
        if next(numbers, False):
            raise OSError("no such address")
        return listener()

    monkeypatch.setattr(module, "_listener", fails_once)
    monkeypatch.setattr(module, "_SETUP_S", 1.0)
    assert on_all(lambda rank: connect(store, rank, 2, TIMEOUT_S), 2) == [None, None]


def connection() -> tuple[socket.socket, socket.socket]:
    """The two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        caller = socket.create_connection(listener.getsockname())
        return caller, listener.accept()[0]


def test_links_that_another_rank_does_not_have_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All ranks use them or none does: the others would wait in gloo for this one."""
    own, other = connection()
    monkeypatch.setattr(launch, "connect", lambda *_: Links({1: own}, 0, TIMEOUT_S))
    monkeypatch.setattr(dist, "all_reduce", lambda connected, _: connected.zero_())
    assert launch._links(dist.HashStore(), 0, 2, TIMEOUT_S) is None  # type: ignore[attr-defined]
    assert other.recv(1) == b""
    other.close()
