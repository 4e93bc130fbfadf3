"""Custom features extractors, which are traced by torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from gymnasium import spaces

from tests.command import run_cli
from tests.export.extractors import (
    Attention,
    BatchInTheGraph,
    Centred,
    ExportAware,
    FixedView,
    KeyedSum,
    Normalized,
    OneRow,
    Residual,
)
from tests.export.policies import BOX, exported, make_model, save
from trpo_deploy.errors import CertificateError, ExportError
from trpo_deploy.export import ExportOptions, SourceOptions, export_model, export_policy
from trpo_deploy.runtime import OnnxPolicy


def test_a_custom_extractor_is_exported_if_its_import_is_allowed(tmp_path: Path) -> None:
    model = make_model(policy_kwargs={"features_extractor_class": Residual})
    save(model, tmp_path)
    name = "tests.export.extractors:Residual"
    run_cli("export", tmp_path).assert_one_clear_line("Residual", "--allow-import")
    run = run_cli("export", tmp_path, "--allow-import", name)
    assert run.code == 0, run.error
    file = onnx.load(tmp_path / "policy.onnx")
    assert file.ir_version <= 8
    assert file.opset_import[0].version == 13
    content = (tmp_path / "policy.onnx").read_bytes()
    assert b"extractors.py" not in content
    assert str(Path.cwd()).encode() not in content
    observations = np.random.default_rng(0).uniform(-1, 1, (9, 3)).astype(np.float32)
    found, _ = OnnxPolicy(tmp_path / "policy.onnx").predict(observations)
    expected, _ = model.predict(observations, deterministic=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    for wrong in ("no.such:Thing", "json:loads", "nothing"):
        run_cli("export", tmp_path, "--allow-import", wrong).assert_one_clear_line(wrong)


@pytest.mark.parametrize("opset", [13, 15])
def test_an_extractor_with_batch_statistics_is_the_same_in_all_engines(
    opset: int, tmp_path: Path
) -> None:
    """Below opset 14, onnx's reference evaluator would use the statistics of each batch."""
    model = make_model(policy_kwargs={"features_extractor_class": Normalized})
    reading = SourceOptions(allow_import=("tests.export.extractors:Normalized",))
    options = ExportOptions(opset=opset)
    certificate = exported(model, tmp_path, reading=reading, options=options).certificate
    assert certificate is not None
    assert certificate.passed
    assert any("onnx reference" in check.name for check in certificate.checks)


@pytest.mark.parametrize("share", [True, False])
def test_a_custom_extractor_of_a_dict_observation_is_exported(share: bool, tmp_path: Path) -> None:
    space = spaces.Dict({"a": BOX, "b": spaces.Discrete(4)})
    model = make_model(
        space,
        spaces.Discrete(3),
        "MultiInputPolicy",
        policy_kwargs={"features_extractor_class": KeyedSum, "share_features_extractor": share},
    )
    result = export_model(model, tmp_path / "p.onnx", options=ExportOptions(("value",)))
    assert result.certificate is not None
    assert result.certificate.passed


def test_a_file_that_differs_from_the_policy_is_not_written(tmp_path: Path) -> None:
    model = make_model(policy_kwargs={"features_extractor_class": ExportAware})
    source = save(model, tmp_path)
    reading = SourceOptions(allow_import=("tests.export.extractors:ExportAware",))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CertificateError, match="not written"):
        export_policy(source, tmp_path / "policy.onnx", reading=reading)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(
    ("extractor", "says"),
    [
        (FixedView, "a batch of 2 fails: shape '.1, 3.' is invalid for input of size 6"),
        (OneRow, r"a batch of 2 gives features of the shape \(1, 12\)"),
        (BatchInTheGraph, r"a batch of 1 gives features of the shape \(2, 3\)"),
        (Centred, "a row has other features in a batch of 2 than alone"),
    ],
)
def test_an_extractor_without_a_free_batch_is_refused(
    extractor: type[Residual], says: str, verify: bool, tmp_path: Path
) -> None:
    model = make_model(policy_kwargs={"features_extractor_class": extractor})
    with pytest.raises(ExportError, match=f"{extractor.__name__} does not take.*{says}"):
        export_model(model, tmp_path / "policy.onnx", verify=verify)
    assert list(tmp_path.iterdir()) == []


def test_an_extractor_that_needs_a_newer_opset_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = make_model(policy_kwargs={"features_extractor_class": Attention})
    with pytest.raises(ExportError, match=r"Attention with opset 13 .*--opset N"):
        export_model(model, tmp_path / "policy.onnx")
    assert capfd.readouterr() == ("", "")
    result = export_model(model, tmp_path / "policy.onnx", options=ExportOptions(opset=14))
    assert result.certificate is not None
    assert result.certificate.passed


def test_a_failed_export_of_an_extractor_prints_one_line(tmp_path: Path) -> None:
    save(make_model(policy_kwargs={"features_extractor_class": Attention}), tmp_path)
    name = "tests.export.extractors:Attention"
    run = run_cli("export", tmp_path, "--allow-import", name)
    run.assert_one_clear_line("Attention", "--opset N")
    assert run.output == ""
