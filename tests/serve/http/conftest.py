from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from tests.runtime.policy_files import write_policy
from tests.serve.http.guarded import FIRST, ORIGIN, SECOND, Guarded
from tests.serve.server import running


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server with keys, small limits and one allowed origin."""
    folder = tmp_path_factory.mktemp("guarded")
    model = write_policy(folder / "cart" / "policy.onnx").parent
    keys = folder / "keys"
    keys.write_text(f"{FIRST}\nsha256:{hashlib.sha256(SECOND.encode()).hexdigest()}\n")
    options = {
        "api_key_file": keys,
        "cors_origins": (ORIGIN,),
        "max_concurrent": 2,
        "slow_client_seconds": 2,
        "max_batch": 4,
        "max_body_bytes": 4096,
    }
    with running(model, **options) as server:
        yield Guarded(server, keys)
