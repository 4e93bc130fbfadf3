"""The card of an exported policy says what was found, in words and with figures that agree."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from trpo_deploy.files.certificate_words import passed_in_words
from trpo_deploy.files.model_dir import ModelDir

MODELS = sorted(path.parent for path in Path(__file__).parents[2].glob("models/*/policy.onnx"))


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_the_card_of_a_shipped_policy_agrees_with_its_certificate(folder: Path) -> None:
    text = ModelDir(folder).card.read_text()
    certificate = json.loads(ModelDir(folder).certificate.read_text())
    assert f"The same policy as the trained one; {passed_in_words(certificate)}." in text
    # A reader sees no power of ten, and nothing that is undecided.
    section = text.partition("The same policy as the trained one")[2]
    assert "e+0" not in section
    assert "undecided" not in section
    for key, name in (("onnx", "file"), ("sb3", "trained policy")):
        (row,) = re.findall(rf"^\| {name} \| (\S+) \| (\S+) to (\S+) \| (\S+) \|$", text, re.M)
        values = certificate["returns"][key]
        expected = [values[each] for each in ("mean", "ci95_low", "ci95_high", "std")]
        assert [float(each) for each in row] == pytest.approx(expected, rel=1e-4)  # 5 digits


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_the_returns_of_a_card_lie_within_the_interval_of_the_certificate(folder: Path) -> None:
    """Of other episodes, so with the width of both intervals, at four standard errors."""
    text = ModelDir(folder).card.read_text()
    (found,) = re.findall(r"^Return (\S+) ± (\S+) \(mean ± standard deviation of 100 ", text, re.M)
    mean, deviation = map(float, found)
    returns = json.loads(ModelDir(folder).certificate.read_text())["returns"]
    error = (deviation**2 / 100 + returns["onnx"]["std"] ** 2 / returns["episodes"]) ** 0.5
    assert abs(mean - returns["onnx"]["mean"]) < 4 * error
