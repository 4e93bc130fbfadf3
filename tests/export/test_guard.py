"""The guard against NaN and infinities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from gymnasium import spaces

from tests.export.policies import BOX, exported, make_model, save, statistics_for
from trpo_deploy import TRPO
from trpo_deploy.errors import ExportError
from trpo_deploy.export import ExportOptions, export_policy


@pytest.mark.parametrize(
    ("space", "safe"),
    [
        (spaces.Box(-1.0, 1.0, (2,)), [0.0, 0.0]),
        (spaces.Box(0.5, 1.0, (2,)), [0.5, 0.5]),
        (spaces.Discrete(3, start=4), 4),
        (spaces.MultiDiscrete([2, 3]), [0, 0]),
        (spaces.MultiBinary(2), [0, 0]),
    ],
)
def test_a_guarded_file_gives_the_safe_action_for_nan(
    space: spaces.Space[Any], safe: Any, tmp_path: Path
) -> None:
    model = make_model(BOX, space, algorithm=TRPO)
    result = exported(model, tmp_path, statistics_for(BOX), options=ExportOptions(guard=True))
    assert result.certificate is not None
    assert any(check.name.startswith("guard") for check in result.certificate.checks)
    assert result.spec.guard is not None
    assert result.spec.guard.action.tolist() == safe
    session = ort.InferenceSession(result.path)
    observations = np.zeros((4, 3), np.float32)
    observations[1, 2], observations[2, 0] = np.nan, np.inf
    action, ok = session.run(["action", "obs_ok"], {"obs": observations})
    assert ok.tolist() == [True, False, False, True]
    assert action[1].tolist() == safe
    assert action[2].tolist() == safe
    np.testing.assert_array_equal(action[0], action[3])


def test_a_guard_for_integer_observations_is_refused(tmp_path: Path) -> None:
    source = save(make_model(spaces.Discrete(3)), tmp_path)
    with pytest.raises(ExportError, match="nothing to guard"):
        export_policy(source, tmp_path / "policy.onnx", options=ExportOptions(guard=True))
