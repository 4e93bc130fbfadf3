"""``trpo-deploy sign`` and ``inspect --trusted-key``, with keys that openssl makes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.command import run_cli
from tests.files.signed import write_certified, write_keys

DOCS = Path(__file__).parents[2] / "docs" / "serving.md"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_certified(tmp_path / "cart" / "policy.onnx").parent


def test_the_documented_openssl_lines_make_keys_that_work(model: Path, tmp_path: Path) -> None:
    lines = [line for line in DOCS.read_text().splitlines() if line.startswith("openssl e")]
    assert len(lines) == 2
    for line in lines:
        subprocess.run(line.partition("#")[0], shell=True, cwd=tmp_path, check=True)
    run = run_cli("sign", model, "--key", tmp_path / "private.pem")
    assert run.output == f"wrote {model / 'policy.sig'}\n", run.error
    run = run_cli("inspect", model, "--trusted-key", tmp_path / "public.pem")
    assert f"signature: made with {tmp_path / 'public.pem'}" in run.output, run.error


def test_inspect_refuses_a_model_that_is_not_signed_with_the_key(
    model: Path, tmp_path: Path
) -> None:
    private, _ = write_keys(tmp_path / "ours")
    _, other = write_keys(tmp_path / "theirs")
    run = run_cli("inspect", model, "--trusted-key", other)
    run.assert_one_clear_line("is not signed")
    assert run_cli("sign", model, "--key", private).code == 0
    run = run_cli("inspect", model, "--trusted-key", other, "--json")
    run.assert_one_clear_line("not made with a trusted key", str(other))
    assert run.output == ""


def test_the_password_of_a_key_is_read_from_the_environment(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = write_keys(tmp_path / "keys", password=b"open sesame")
    run_cli("sign", model, "--key", private).assert_one_clear_line(
        "is encrypted", "TRPO_DEPLOY_KEY_PASSWORD"
    )
    monkeypatch.setenv("TRPO_DEPLOY_KEY_PASSWORD", "wrong")
    run_cli("sign", model, "--key", private).assert_one_clear_line("the password is wrong")
    monkeypatch.setenv("TRPO_DEPLOY_KEY_PASSWORD", "open sesame")
    assert run_cli("sign", model, "--key", private).code == 0
    assert run_cli("inspect", model, "--trusted-key", public).code == 0


def test_a_key_that_cannot_sign_is_one_clear_line(model: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path / "keys")
    run_cli("sign", model, "--key", public).assert_one_clear_line("is a public key")
    run_cli("sign", model, "--key", tmp_path / "none").assert_one_clear_line("does not exist")
    run_cli("sign", model, "--key", tmp_path).assert_one_clear_line("is not a file")
    run_cli("sign", model, "--key", model / "policy.onnx").assert_one_clear_line("PEM")
    assert not (model / "policy.sig").exists()
    assert run_cli("sign", model, "--key", private).code == 0
    run = run_cli("inspect", model, "--trusted-key", private)
    run.assert_one_clear_line("is a private key", "openssl ec -in")


def test_a_model_without_its_certificate_is_not_signed(model: Path, tmp_path: Path) -> None:
    private, _ = write_keys(tmp_path / "keys")
    certificate = model / "certificate.json"
    certificate.write_text(certificate.read_text().replace("pass", "fail"))
    run_cli("sign", model, "--key", private).assert_one_clear_line("does not certify")
    certificate.unlink()
    run_cli("sign", model, "--key", private).assert_one_clear_line("has no certificate")
    assert not (model / "policy.sig").exists()


def test_a_signature_can_be_written_elsewhere(model: Path, tmp_path: Path) -> None:
    private, _ = write_keys(tmp_path / "keys")
    output = tmp_path / "new" / "cart.sig"
    assert run_cli("sign", model, "--key", private, "-o", output).code == 0
    assert output.is_file()
    assert not (model / "policy.sig").exists()
