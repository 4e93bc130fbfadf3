"""A revoked key is refused in time, whatever the models do."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.runtime.policy_files import write_policy
from tests.serve.http.guarded import FIRST, OBS, SECOND, bearer
from tests.serve.models.replace import replace_policy
from tests.serve.server import running, wait_until

IN_TIME_S = 2


def test_a_key_is_revoked_while_loading_a_model_hangs(tmp_path: Path) -> None:
    file = write_policy(tmp_path / "models" / "cart" / "policy.onnx")
    keys = tmp_path / "keys"
    keys.write_text(f"{FIRST}\n{SECOND}\n")
    with running(tmp_path / "models", api_key_file=keys) as server:

        def status(key: str) -> int:
            return server.client.post("/predict", json=OBS, headers=bearer(key)).status_code

        assert status(FIRST) == status(SECOND) == 200
        # Who opens a FIFO waits until somebody writes to it.
        odd = tmp_path / "models" / "odd"
        write_policy(odd / "policy.onnx")
        (odd / "certificate.json").unlink(missing_ok=True)
        os.mkfifo(odd / "certificate.json")
        replace_policy(file, 1)
        time.sleep(1.5)
        keys.write_text(f"{SECOND}\n")
        # Four times the promise, for a slow machine.
        assert wait_until(lambda: status(FIRST) == 401, 4 * IN_TIME_S)
        assert status(SECOND) == 200
