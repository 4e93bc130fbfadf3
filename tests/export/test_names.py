"""Every policy name gives files of its own, and an export writes all of its files or none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.command import run_cli
from tests.export.policies import make_model, save
from trpo_deploy.errors import ExportError, ModelDirError
from trpo_deploy.export import export_model, export_policy
from trpo_deploy.files.atomic import file_sha256
from trpo_deploy.files.certificate import certificate_path, read_certificate
from trpo_deploy.files.names import MAX_NAME_BYTES
from trpo_deploy.runtime import OnnxPolicy


def test_policies_with_numbers_in_their_names_have_their_own_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("ppo_lr0.0003", "ppo_lr0.0001")):
        make_model(seed=seed).save(name)
        assert Path(name).is_file(), "SB3 adds no .zip to a name with a dot"
        run = run_cli("export", name, cwd=tmp_path)
        assert run.code == 0, run.error
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        f"ppo_lr0.000{number}{ending}"
        for number in (1, 3)
        for ending in ("", ".onnx", ".certificate.json", ".policy.json", ".md")
    }
    for number in (1, 3):
        onnx = Path(f"ppo_lr0.000{number}.onnx")
        certificate = read_certificate(onnx)
        assert certificate is not None
        assert f"ppo_lr0.000{number}" in certificate["sha256"]
        assert run_cli("verify", onnx.stem, onnx, cwd=tmp_path).code == 0
        inspected = run_cli("inspect", onnx, "--json", cwd=tmp_path)
        assert json.loads(inspected.output)["certificate"]["verdict"] == "pass"


@pytest.mark.parametrize(
    "name",
    [
        "a b.onnx",
        "ppo_lr0.0003",
        "x.md",
        "README",
        ".onnx",
        "[red]x[bold].onnx",
        "ü.onnx",
        "x\ny.onnx",
    ],
)
def test_an_output_of_any_name_has_its_own_certificate(name: str, tmp_path: Path) -> None:
    source = save(make_model(), tmp_path / "run")
    run = run_cli("export", source.policy_zip, "-o", tmp_path / "out" / name)
    assert run.code == 0, run.error
    onnx = tmp_path / "out" / name
    stem = name.removesuffix(".onnx") or name
    assert {path.name for path in onnx.parent.iterdir()} == {
        name,
        f"{stem}.certificate.json",
        f"{stem}.policy.json",
        f"{stem}.md",
    }
    about = json.loads((onnx.parent / f"{stem}.policy.json").read_text())
    assert about["name"] == stem
    assert about["files"] == {name: file_sha256(onnx)}
    assert about["spec"] == json.loads(OnnxPolicy(onnx).spec.to_json())
    certificate = read_certificate(onnx)
    assert certificate is not None
    assert certificate["verdict"] == "pass"


def test_a_name_that_is_too_long_leaves_no_file(tmp_path: Path) -> None:
    longest = "x" * (MAX_NAME_BYTES - len(".certificate.json"))
    source = save(make_model(), tmp_path / "run")
    out = tmp_path / "out"
    out.mkdir()
    export_policy(source, out / f"{longest}.onnx", verify=False)
    export_model(make_model(), out / f"{longest}.onnx")
    assert len(list(out.iterdir())) == 4
    for name in (f"{longest}x.onnx", "y" * 260 + ".onnx", "ü" * 118 + ".onnx"):
        run = run_cli("export", source.policy_zip, "-o", out / name)
        run.assert_one_clear_line("bytes", "-o")
        with pytest.raises(ModelDirError, match="bytes"):
            export_model(make_model(), out / name)
    assert len(list(out.iterdir())) == 4


def test_a_zip_with_the_longest_name_asks_for_a_shorter_one(tmp_path: Path) -> None:
    policy_zip = tmp_path / ("x" * 251 + ".zip")
    make_model().save(policy_zip)
    run_cli("export", policy_zip, cwd=tmp_path).assert_one_clear_line("256 bytes", "-o")
    assert list(tmp_path.iterdir()) == [policy_zip]
    run = run_cli("export", policy_zip, "-o", tmp_path / "short.onnx")
    assert run.code == 0, run.error


def test_a_name_that_is_not_utf_8_leaves_no_file(tmp_path: Path) -> None:
    source = save(make_model(), tmp_path / "run").policy_zip
    name = os.fsdecode(b"caf\xe9")
    try:
        (tmp_path / f"{name}.zip").write_bytes(source.read_bytes())
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    (tmp_path / f"{name}.pkl").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    run = run_cli("export", source, "--vecnormalize", tmp_path / f"{name}.pkl")
    run.assert_one_clear_line("caf\\xe9.pkl", "not UTF-8")
    run = run_cli("export", tmp_path / f"{name}.zip", cwd=tmp_path)
    run.assert_one_clear_line("caf\\xe9.zip", "not UTF-8", "rename")
    run = run_cli("export", source, "-o", tmp_path / f"{name}.onnx")
    run.assert_one_clear_line("caf\\xe9", "not UTF-8")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_whose_name_is_not_utf_8_is_written_to(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        save(make_model(), folder)
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    run = run_cli("export", folder)
    assert run.code == 0, run.error
    assert {path.name for path in folder.iterdir()} == {
        "policy.zip",
        "policy.onnx",
        "certificate.json",
        "policy.json",
        "README.md",
    }


def test_an_export_never_replaces_its_source(tmp_path: Path) -> None:
    source = save(make_model(), tmp_path)
    content = source.policy_zip.read_bytes()
    with pytest.raises(ExportError, match="would replace its source"):
        export_policy(source, tmp_path / "policy.zip")
    assert source.policy_zip.read_bytes() == content


@pytest.mark.parametrize("blocked", ["robot.certificate.json", "robot.md", "golden/model.onnx"])
def test_a_file_that_cannot_be_written_leaves_none(blocked: str, tmp_path: Path) -> None:
    source = save(make_model(), tmp_path / "run")
    out = tmp_path / "out"
    (out / blocked).mkdir(parents=True)
    onnx = out / "robot.onnx"
    onnx.write_bytes(b"the old one")
    with pytest.raises(ModelDirError, match=r"cannot write .*it is a folder"):
        export_policy(source, onnx, golden=out / "golden")
    files = [path for path in out.rglob("*") if path.is_file()]
    assert files == [onnx]
    assert onnx.read_bytes() == b"the old one"


def test_a_card_keeps_the_text_of_the_file_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("Mine.\n")
    export_policy(save(make_model(), tmp_path / "run"), tmp_path / "README.onnx", verify=False)
    assert (tmp_path / "README.md").read_text().startswith("Mine.\n")


def test_certificates_are_named_after_the_whole_name() -> None:
    assert certificate_path(Path("runs/policy.onnx")) == Path("runs/certificate.json")
    assert certificate_path(Path("a/lr0.1.onnx")) == Path("a/lr0.1.certificate.json")
    assert certificate_path(Path("a/lr0.1")) == Path("a/lr0.1.certificate.json")
