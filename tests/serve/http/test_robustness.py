"""No input makes the service fail, log a traceback or lose a worker."""

from __future__ import annotations

import http.client
import random
import socket
from urllib.parse import urlsplit

import pytest

from tests.serve.server import Server

PATHS = [
    *("/predict", "/models/box/predict", "/models/image/predict", "/v2/models/box/infer"),
    *("/v2/models/dict/infer", "/admin/models/box/load", "/v2/repository/index", "/models/box"),
    *("/docs.json", "/metrics", "/readyz", "/ws/box", "/nothing", "/v2", "/schema.json"),
]
SEEDS = [
    b'{"observation": [1, 2, 3, 4], "model": "box"}',
    b'{"inputs":[{"name":"obs","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}',
    b'{"inputs":[{"name":"obs","datatype":"FP32","shape":[1,4],"parameters":{"binary_data_size":16}}]}',
    bytes(16),
    b"",
]
HEADERS = [
    {"content-type": "application/json"},
    {
        "content-type": "application/octet-stream",
        "x-tensor-dtype": "float32",
        "x-tensor-shape": "4",
    },
    {"content-type": "application/octet-stream", "inference-header-content-length": "88"},
    {"content-type": "multipart/form-data; boundary=x"},
    {"content-encoding": "gzip"},
    {"transfer-encoding": "chunked"},
    {"authorization": "Basic \xff"},
]


def mutate(rng: random.Random, data: bytes) -> bytes:
    """Change, remove or insert a few bytes."""
    content = bytearray(data)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(content) + 1)
        content[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(4))
    return bytes(content)


def test_any_request_gets_an_answer_below_500(server: Server) -> None:
    rng = random.Random(0)
    before = server.workers()
    for _ in range(1500):
        path, headers = rng.choice(PATHS), rng.choice(HEADERS)
        method = rng.choice(["POST", "POST", "POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
        content = mutate(rng, rng.choice(SEEDS))
        raw = [(key.encode(), value.encode("latin-1")) for key, value in headers.items()]
        response = server.client.request(method, path, content=content, headers=raw)
        assert response.status_code < 500, (method, path, headers, content, response.text)
        assert b"Traceback" not in response.content
    assert server.workers() == before


def test_invalid_http_ends_only_its_own_connection(server: Server) -> None:
    rng = random.Random(1)
    before = server.workers()
    address = urlsplit(server.url)
    request = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}"
    for _ in range(200):
        with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
            connection.sendall(mutate(rng, mutate(rng, request)))
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(4096)
            assert not answer.startswith(b"HTTP/1.1 5"), answer
    assert server.workers() == before
    assert server.client.get("/livez").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/models/..%2f..%2fetc%2fpasswd",
        "/models/../../etc/passwd/predict",
        "/models/%00/predict",
        "/models/" + "x" * 5000,
        "/v2/models/box/versions/..",
        "/static_content/../app.py",
        "/static_content/..%2f..%2f..%2fapp.py",
        "//predict",
        "/predict/",
        "/v2/",
        "/models//predict",
        "/admin/models/box",
    ],
)
def test_a_path_outside_the_table_finds_nothing(server: Server, path: str) -> None:
    address = urlsplit(server.url)
    # httpx would normalize the path.
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status in (404, 405), response.read()
    connection.close()
