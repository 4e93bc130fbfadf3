"""Keys and origins decide who may use the service."""

from __future__ import annotations

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.serve.http.guarded import FIRST, OBS, ORIGIN, SECOND, Guarded, bearer
from tests.serve.server import wait_until


def test_predict_needs_one_of_the_keys(guarded: Guarded) -> None:
    client = guarded.server.client
    for headers in ({}, bearer("wrong"), {"x-api-key": ""}, {"x-api-key": "wrong"}):
        response = client.post("/predict", json=OBS, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
    for headers in (bearer(FIRST), bearer(SECOND), {"x-api-key": FIRST}):
        assert client.post("/predict", json=OBS, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path", ["/models", "/models/cart", "/metrics", "/docs.json", "/schema.json"]
)
def test_descriptions_of_the_models_need_a_key(guarded: Guarded, path: str) -> None:
    client = guarded.server.client
    assert client.get(path).status_code == 401
    assert client.get(path, headers=bearer(FIRST)).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/v2/health/ready", "/docs"])
def test_health_and_docs_need_no_key(guarded: Guarded, path: str) -> None:
    assert guarded.server.client.get(path).status_code == 200


def test_a_websocket_needs_a_key(guarded: Guarded) -> None:
    url = guarded.server.websocket_url("cart")
    with pytest.raises(InvalidStatus) as caught:
        connect(url)
    assert caught.value.response.status_code == 401
    with connect(url, additional_headers=bearer(FIRST)) as socket:
        socket.send(bytes(16))
        assert len(socket.recv()) == 8


def test_administration_is_off_without_an_admin_key_file(guarded: Guarded) -> None:
    response = guarded.server.client.post("/admin/models/cart/load", headers=bearer(FIRST))
    assert response.status_code == 403


def test_a_running_service_uses_changed_keys(guarded: Guarded) -> None:
    before = guarded.keys.read_text()
    third = "third-key-of-the-tests"
    guarded.keys.write_text(before + third)
    assert wait_until(lambda: guarded.status(third) == 200, 5)
    guarded.keys.write_text(before)
    assert wait_until(lambda: guarded.status(third) == 401, 5)
    assert guarded.status(FIRST) == 200


def test_only_allowed_origins_get_cors_headers(guarded: Guarded) -> None:
    client = guarded.server.client
    for origin, allowed in ((ORIGIN, True), ("https://evil.example", False)):
        asked = {"origin": origin, "access-control-request-method": "POST"}
        preflight = client.options("/predict", headers=asked)
        assert ("access-control-allow-origin" in preflight.headers) is allowed
        response = client.post("/predict", json=OBS, headers={"origin": origin, **bearer(FIRST)})
        assert ("access-control-allow-origin" in response.headers) is allowed


def test_a_websocket_opens_for_the_own_and_for_allowed_origins_only(guarded: Guarded) -> None:
    url = guarded.server.websocket_url("cart")
    for origin in (ORIGIN, guarded.server.url):
        with connect(url, additional_headers=bearer(FIRST), origin=Origin(origin)) as socket:
            socket.send(bytes(16))
            assert len(socket.recv()) == 8
    with pytest.raises(InvalidStatus) as caught:
        connect(url, additional_headers=bearer(FIRST), origin=Origin("https://evil.example"))
    assert caught.value.response.status_code == 403


def test_scripts_of_allowed_origins_may_read_the_headers_of_an_answer(guarded: Guarded) -> None:
    headers = {
        "origin": ORIGIN,
        "content-type": "application/octet-stream",
        "x-tensor-dtype": "float32",
        "x-tensor-shape": "4",
        **bearer(FIRST),
    }
    response = guarded.server.client.post("/predict", content=bytes(16), headers=headers)
    assert response.status_code == 200
    exposed = response.headers["access-control-expose-headers"].lower().split(", ")
    sent = {name for name in response.headers if name.startswith("x-")} - {"x-content-type-options"}
    assert sent == {"x-tensor-dtype", "x-tensor-shape", "x-model-version"}
    assert sent | {"inference-header-content-length", "retry-after"} <= set(exposed)


def test_options_names_the_methods_and_needs_no_key(guarded: Guarded) -> None:
    client = guarded.server.client
    readable = "GET, HEAD, OPTIONS"
    paths = {"/predict": "POST, OPTIONS", "/models": readable, "/metrics": readable}
    for path, methods in paths.items():
        response = client.options(path)
        assert response.status_code == 200
        assert response.headers["allow"] == methods
        assert response.content == b""
        assert client.put(path).headers["allow"] == methods
    assert client.options("/nothing").status_code == 404


def test_readiness_names_models_only_with_a_key(guarded: Guarded) -> None:
    client = guarded.server.client
    for path in ("/readyz", "/v2/health/ready"):
        for headers in ({}, bearer("wrong")):
            response = client.get(path, headers=headers)
            assert response.status_code == 200
            assert response.json() == {"ready": True, "draining": False, "overdue_tasks": []}
        assert client.get(path, headers=bearer(FIRST)).json()["models"] == {"cart": "ready"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/docs", "/livez", "/nothing", "/models", "/metrics")),
        *(("GET", path) for path in ("/healthz", "/static_content/swagger-ui.css", "/schema.json")),
        *(("POST", "/predict"), ("OPTIONS", "/predict"), ("PUT", "/predict")),
    ],
)
def test_browsers_must_not_guess_the_type_of_any_answer(
    guarded: Guarded, method: str, path: str
) -> None:
    for headers in ({}, bearer(FIRST), {"origin": ORIGIN, "access-control-request-method": "POST"}):
        response = guarded.server.client.request(method, path, headers=headers)
        assert response.headers["x-content-type-options"] == "nosniff"


def test_pages_may_not_be_framed(guarded: Guarded) -> None:
    for path in ("/docs", "/"):
        headers = guarded.server.client.get(path).headers
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
