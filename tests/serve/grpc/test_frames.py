"""Frames and the bytes of unfinished messages, however they are cut into pieces."""

from __future__ import annotations

import itertools
import random
from typing import Any
from unittest.mock import Mock

import pytest

from tests.serve.grpc.raw_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    call_headers,
    frame,
    message,
)
from trpo_deploy.serve.grpc.connection import Connections, GrpcConnection, _Core
from trpo_deploy.serve.grpc.frames import GOAWAY, PREFACE, FrameReader, Uploads, ends_stream

SENT = (
    PREFACE
    + frame(SETTINGS, 0, 0)
    + call_headers(1)
    + frame(DATA, 0, 1, b"abc")
    + frame(PING, 0, 0, bytes(8))
    + frame(DATA, END_STREAM, 1, b"defgh")
    + frame(DATA, END_STREAM, 3, b"")
)


def pieces(data: bytes, seed: int) -> list[bytes]:
    """Data cut at random places; every byte alone for the seed 0."""
    rng = random.Random(seed)
    places = range(1, len(data)) if seed == 0 else sorted(rng.sample(range(1, len(data)), 7))
    bounds = [0, *places, len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


@pytest.mark.parametrize("seed", range(8))
def test_frames_are_the_same_however_they_arrive(seed: int) -> None:
    reader = FrameReader(len(PREFACE))
    bodies: dict[int, bytes] = {}
    ended = []
    for piece in pieces(SENT, seed):
        for kind, flags, stream, payload in reader.read(piece):
            if kind == DATA:
                bodies[stream] = bodies.get(stream, b"") + payload
            if ends_stream(kind, flags):
                ended.append(stream)
                assert bodies.get(stream, b"") == {1: b"abcdefgh", 3: b""}[stream]
    assert bodies == {1: b"abcdefgh", 3: b""}
    assert ended == [1, 3]


def test_only_the_end_of_a_stream_ends_it() -> None:
    assert ends_stream(RST_STREAM, 0)
    assert ends_stream(HEADERS, END_STREAM)
    assert not ends_stream(SETTINGS, 1)  # an acknowledgement
    assert not ends_stream(DATA, 0)


@pytest.mark.parametrize("seed", range(8))
def test_bytes_are_held_until_their_message_is_complete(seed: int) -> None:
    uploads = Uploads(max_bytes=1000)
    for piece in pieces(message(b"x" * 100) + message(b"") + message(b"y" * 50), seed):
        uploads.add(1, piece)
    assert (len(uploads), uploads.held, uploads.too_large) == (0, 0, 0)
    for piece in pieces(message(b"z" * 300)[:200], seed):
        uploads.add(1, piece)
    uploads.add(3, message(b"other")[:4])
    assert (len(uploads), uploads.held) == (2, 204)
    oldest = uploads.oldest()
    uploads.end(1)
    assert oldest is not uploads.oldest()
    assert (len(uploads), uploads.held) == (1, 4)
    uploads.end(3)
    uploads.end(5)
    assert (uploads.oldest(), uploads.held) == (None, 0)


def test_a_message_that_is_too_large_is_counted_once() -> None:
    uploads = Uploads(max_bytes=10)
    for piece in pieces(message(b"x" * 11), 0):
        uploads.add(1, piece)
    uploads.add(1, message(b"x" * 10))
    assert uploads.too_large == 1


def relayed(*answers: bytes, end_after: int) -> bytes:
    """What a client gets that is asked to begin no more calls after so many answers of the core."""
    connection = GrpcConnection(Connections("", 100, 100, 10))
    sent: list[bytes] = []
    transport: Any = Mock(is_closing=lambda: False, write=sent.append)
    connection.transport = transport
    core = _Core(connection)
    for index, answer in enumerate(answers):
        if index == end_after:
            core.end()
        core.data_received(answer)
    if end_after == len(answers):
        core.end()
    return b"".join(sent)


def test_a_client_is_asked_to_end_between_two_frames() -> None:
    settings, data = frame(SETTINGS, 0, 0), frame(DATA, 0, 1, b"abc")
    assert relayed(settings, data, end_after=1) == settings + GOAWAY + data
    assert relayed(settings, data, end_after=2) == settings + data + GOAWAY
    cut = (settings, data[:4], data[4:11], data[11:])
    for end_after in (2, 3):
        assert relayed(*cut, end_after=end_after) == settings + data + GOAWAY
    # The settings come first, and the blocks of headers stay together.
    assert relayed(settings, data, end_after=0) == settings + GOAWAY + data
    headers, more = frame(HEADERS, 0, 1, b"ab"), frame(CONTINUATION, END_HEADERS, 1, b"c")
    assert relayed(settings, headers, more, end_after=2) == settings + headers + more + GOAWAY
    (read,) = FrameReader().read(GOAWAY)
    assert read == (7, 0, 0, b"\x7f\xff\xff\xff" + bytes(4))
