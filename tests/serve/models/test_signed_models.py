"""With trusted keys, a server takes up signed models only, at start and at each replacement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.files.signed import write_certified, write_keys
from tests.serve.server import Server, running, wait_until
from trpo_deploy.errors import ServeError
from trpo_deploy.files.signature import sign
from trpo_deploy.serve import serve


def state(server: Server, name: str) -> dict[str, Any]:
    """What ``GET /models`` says about a model; empty while it is unknown."""
    model: dict[str, Any] = server.client.get("/models").json()["models"].get(name, {})
    return model


def says(server: Server, name: str, words: str) -> Callable[[], bool]:
    return lambda: words in str(state(server, name).get("error"))


def serves(server: Server, name: str) -> Callable[[], bool]:
    """Whether what lies on disk is served."""
    return lambda: state(server, name).get("error", "unknown") is None


def test_only_signed_content_is_taken_up(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path / "keys")
    other, _ = write_keys(tmp_path / "other")
    cart = write_certified(tmp_path / "models" / "cart" / "policy.onnx")
    sign(cart, private)
    with running(tmp_path / "models", trusted_keys=(str(public),)) as server:
        first = server.predict([1, 2, 3, 4]).json()["version"]
        write_certified(cart, seed=1)
        assert wait_until(says(server, "cart", "was changed or removed since it was signed"))
        sign(cart, other)
        assert wait_until(says(server, "cart", "not made with a trusted key"))
        (cart.parent / "policy.sig").unlink()
        assert wait_until(says(server, "cart", "is not signed"))
        assert server.predict([1, 2, 3, 4]).json()["version"] == first
        sign(cart, private)
        assert wait_until(serves(server, "cart"))
        assert server.predict([1, 2, 3, 4]).json()["version"] != first

        new = write_certified(tmp_path / "models" / "new" / "policy.onnx")
        assert wait_until(says(server, "new", "is not signed"))
        answer = server.client.post("/models/new/predict", json={"observation": [1, 2, 3, 4]})
        assert answer.status_code == 503
        sign(new, private)
        assert wait_until(serves(server, "new"))


def test_a_trusted_key_that_is_no_public_key_stops_the_start(tmp_path: Path) -> None:
    cart = write_certified(tmp_path / "cart" / "policy.onnx")
    private, _ = write_keys(tmp_path / "keys")
    with pytest.raises(ServeError, match="is a private key"):
        serve([cart], trusted_keys=(private,))
    with pytest.raises(ServeError, match="does not exist"):
        serve([cart], trusted_keys=(tmp_path / "none.pem",))
