"""Subclasses of SB3's policies: exported as they act, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.export.own_policies import (
    OwnNetwork,
    OwnObservation,
    OwnPrediction,
    OwnScale,
    OwnTraining,
)
from tests.export.policies import make_model, save
from trpo_deploy import TRPO
from trpo_deploy.errors import ExportError, PolicyZipError
from trpo_deploy.export import SourceOptions, export_model, export_policy
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.sb3.squashed import squashed


@pytest.mark.parametrize(
    ("policy", "method"),
    [
        (OwnPrediction, "_predict"),
        (OwnObservation, "obs_to_tensor"),
        (OwnScale, "unscale_action"),
        (squashed(OwnScale), "unscale_action"),
    ],
)
def test_a_policy_with_an_own_way_to_act_is_refused_without_a_certificate_too(
    policy: type, method: str, tmp_path: Path
) -> None:
    model = make_model(policy=policy)
    source = save(model, tmp_path)
    named = f"{policy.__name__}, which is not supported; .* without an own {method}"
    with pytest.raises(ExportError, match=named):
        export_model(model, tmp_path / "policy.onnx", verify=False)
    if policy.__module__ == OwnScale.__module__:
        reading = SourceOptions(allow_import=(f"{policy.__module__}:{policy.__name__}",))
        with pytest.raises(PolicyZipError, match=named):
            export_policy(source, tmp_path / "policy.onnx", verify=False, reading=reading)
    assert not (tmp_path / "policy.onnx").exists()


def test_a_policy_that_only_trains_in_its_own_way_is_exported(tmp_path: Path) -> None:
    model = make_model(policy=OwnTraining)
    reading = SourceOptions(allow_import=("tests.export.own_policies:OwnTraining",))
    export_policy(save(model, tmp_path), tmp_path / "policy.onnx", reading=reading)
    observations = np.random.default_rng(0).uniform(-1, 1, (9, 3)).astype(np.float32)
    found, _ = OnnxPolicy(tmp_path / "policy.onnx").predict(observations)
    expected, _ = model.predict(observations, deterministic=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_squashed_policy_in_memory_is_exported(tmp_path: Path) -> None:
    """This project's own ``unscale_action`` is known."""
    model = make_model(algorithm=TRPO, policy_kwargs={"squash_output": True})
    assert export_model(model, tmp_path / "policy.onnx").spec.squashed


def test_a_network_without_the_layers_of_sb3_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="NoLayers, has no policy_net that is"):
        export_model(make_model(policy=OwnNetwork), tmp_path / "policy.onnx")
