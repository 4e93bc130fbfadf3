"""What ``export``, ``verify`` and ``inspect`` say about a certificate: a few lines in words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from gymnasium import spaces
from stable_baselines3 import PPO

from tests.command import Run, run_cli
from tests.export.policies import BOX, make_model, save, statistics_for
from trpo_deploy.cli.certificate import print_certificate
from trpo_deploy.cli.output import release_stdout
from trpo_deploy.files.model_dir import ModelDir

NUMBERS = r"[\d,]+ observations, largest error [\d.e-]+ of [\d.e-]+ allowed"


def lines_of(run: Run) -> list[str]:
    assert run.code == 0, run.error
    assert run.error == ""
    return run.output.splitlines()


def test_an_export_says_in_two_lines_what_was_compared(model: ModelDir, tmp_path: Path) -> None:
    wrote, certificate, *others = lines_of(run_cli("export", model.root, "-o", tmp_path / "p.onnx"))
    files = r"p\.onnx \([\d.]+ KiB\) with p\.certificate\.json, p\.policy\.json and p\.md"
    assert re.fullmatch(f"wrote .*{files}", wrote)
    assert re.fullmatch(
        rf"certificate: the same policy; \d+ checks passed: {NUMBERS}, 48 of 48 episodes equal",
        certificate,
    )
    # A run of two thousand steps may not stand out from random actions.
    assert all(line.startswith("  no witness (returns of training): ") for line in others)
    assert len(others) <= 1


def test_what_was_not_played_and_has_no_witness_is_said_once(tmp_path: Path) -> None:
    make_model().save(tmp_path / "model.zip")
    run = run_cli("export", tmp_path / "model.zip", cwd=tmp_path)
    _, certificate, *others = lines_of(run)
    assert re.fullmatch(rf"certificate: the same policy; \d+ checks passed: {NUMBERS}", certificate)
    assert others == [
        "  on made-up observations only; not played: the policy's environment is unknown; name it "
        "with --env ID",
        "  no witness (observations of the policy): the model kept no observation",
        "  no witness (returns of training): neither the model nor an evaluation of its run "
        "recorded returns",
    ]


def test_verbose_prints_every_check_and_what_was_not_read(tmp_path: Path) -> None:
    make_model(algorithm=PPO).save(tmp_path / "model.zip")
    short = lines_of(run_cli("export", "model.zip", cwd=tmp_path))
    long = lines_of(run_cli("export", "model.zip", "--verbose", cwd=tmp_path))
    checks = json.loads((tmp_path / "model.certificate.json").read_text())["checks"]
    added = [line for line in long if line not in short]
    assert added[0].startswith("not read, as nothing needs it: ")
    assert "lr_schedule" in added[0]
    assert [line.split(": ")[0].split(maxsplit=1)[1] for line in added[1:]] == [
        check["name"].split(": ")[0] for check in checks
    ]
    assert not [line for line in added if line.endswith(":") or "{" in line or "[]" in line]
    assert len(lines_of(run_cli("verify", "model.zip", "model.onnx", cwd=tmp_path))) == 4
    assert (
        len(lines_of(run_cli("verify", "model.zip", "model.onnx", "--verbose", cwd=tmp_path))) > 9
    )


def test_a_difference_is_told_in_words(tmp_path: Path) -> None:
    make_model(seed=0).save(tmp_path / "one.zip")
    make_model(seed=1).save(tmp_path / "other.zip")
    make_model(BOX, spaces.Discrete(2)).save(tmp_path / "discrete.zip")
    assert run_cli("export", "one.zip", cwd=tmp_path).code == 0
    other = run_cli("verify", "other.zip", "one.onnx", cwd=tmp_path)
    assert other.code == 1
    assert "certificate: NOT the same policy" in other.output
    assert re.search(
        r"FAIL parity, onnxruntime, ordinary observations: mean\[\d\] is [-\d.]+ in the file and "
        r"[-\d.]+ in SB3, an error of [\d.]+ where [\d.e-]+ is allowed; \d+ of \d+ rows differ",
        other.output,
    )
    spaces_differ = run_cli("verify", "discrete.zip", "one.onnx", cwd=tmp_path)
    assert "the file's action space is Box(3,) float32 in [-1, 1], the policy's Discrete(2)" in (
        spaces_differ.output
    )
    for run in (other, spaces_differ):
        assert "{" not in run.output


@pytest.mark.parametrize("verify", ["--verify", "--no-verify"])
def test_a_contradiction_that_was_accepted_is_said(verify: str, tmp_path: Path) -> None:
    """The training had no normaliser, but statistics are there."""
    model = make_model(algorithm=PPO, n_steps=8, batch_size=8)
    model.learn(8)
    save(model, tmp_path, statistics_for(BOX))
    refused = run_cli("export", tmp_path)
    refused.assert_one_clear_line("trained without it", "--no-normalize-check")
    exported = run_cli("export", tmp_path, "--no-normalize-check", verify)
    problem = "there are statistics of VecNormalize, but the policy was trained without it"
    assert f"warning: accepted with --no-normalize-check: {problem}" in exported.output
    assert f"accepted: {problem}" in run_cli("inspect", tmp_path).output
    assert (tmp_path / "README.md").read_text().count(problem) == 1


@pytest.mark.parametrize(
    "certificate",
    [{"verdict": "pass", "checks": []}, {"verdict": "pass"}, {"verdict": "fail", "checks": [{}]}],
)
def test_a_certificate_of_another_version_is_printed(
    certificate: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    release_stdout()
    print_certificate(certificate, verbose=True)
    assert capsys.readouterr().out.startswith("certificate: ")


def test_a_certificate_of_an_unknown_form_is_one_clear_line(
    model: ModelDir, tmp_path: Path
) -> None:
    onnx = tmp_path / "policy.onnx"
    onnx.write_bytes(model.onnx.read_bytes())
    stored = json.loads(model.certificate.read_text())
    for checks in ("text", [1], [{"name": "parity, onnxruntime, edges"}], [{"name": "returns"}]):
        (tmp_path / "certificate.json").write_text(json.dumps({**stored, "checks": checks}))
        run_cli("inspect", onnx).assert_one_clear_line("certificate.json", "form")
