"""A run is found from any of its files, and its configuration is read once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trpo_deploy.errors import ConfigError, ModelDirError
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.runs import Run, find_run, run_of_exported
from trpo_deploy.files.yaml import read_yaml

OURS = "env_id: Pendulum-v1\nenv_kwargs: {g: 2.0}\nframe_stack: 2\nnormalize: true\n"


@pytest.fixture
def ours(tmp_path: Path) -> ModelDir:
    folder = ModelDir(tmp_path / "run")
    folder.best.root.mkdir(parents=True)
    for each in (folder, folder.best):
        for path in (each.policy_zip, each.vecnormalize, each.onnx):
            path.write_bytes(b"")
    folder.config.write_text(OURS)
    return folder


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    folder = tmp_path / "FrozenLake-v1_1"
    inner = folder / "FrozenLake-v1"
    inner.mkdir(parents=True)
    for name in ("FrozenLake-v1.zip", "best_model.zip", "FrozenLake-v1.onnx"):
        (folder / name).write_bytes(b"")
    (inner / "vecnormalize.pkl").write_bytes(b"")
    (inner / "config.yml").write_text("normalize: \"{'norm_obs': False}\"\n")
    (inner / "args.yml").write_text("env_kwargs: {is_slippery: false}\n")
    return folder


@pytest.mark.parametrize("given", ["", "policy.zip", "policy.onnx", "evaluate-me.onnx"])
@pytest.mark.parametrize("part", ["", "best"])
def test_every_file_of_a_model_folder_leads_to_its_run(
    part: str, given: str, ours: ModelDir
) -> None:
    folder = ModelDir(ours.root / part)
    (folder.root / "evaluate-me.onnx").write_bytes(b"")
    run = find_run(folder.root / given)
    assert run.policy_zip == folder.policy_zip
    assert run.vecnormalize == folder.vecnormalize
    assert run.config is not None
    assert run.config.samefile(ours.config)
    assert run.settings.env_id == "Pendulum-v1"
    assert run.settings.env_kwargs == {"g": 2.0}
    assert run.settings.frame_stack == 2
    assert run.settings.normalizes


@pytest.mark.parametrize("given", ["", "FrozenLake-v1.zip", "best_model.zip", "FrozenLake-v1.onnx"])
def test_every_file_of_an_rl_zoo_run_leads_to_its_run(given: str, zoo: Path) -> None:
    run = find_run(zoo / given)
    name = "best_model.zip" if given == "best_model.zip" else "FrozenLake-v1.zip"
    assert run.policy_zip == zoo / name
    assert run.vecnormalize == zoo / "FrozenLake-v1" / "vecnormalize.pkl"
    assert run.settings.env_id == "FrozenLake-v1"
    assert run.settings.env_kwargs == {"is_slippery": False}
    assert not run.settings.normalizes


def test_best_is_found_from_inside_the_folder(
    ours: ModelDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ours.best.root)
    assert find_run(Path()).settings.env_id == "Pendulum-v1"
    assert find_run(Path("policy.onnx")).settings.env_id == "Pendulum-v1"


def test_a_run_in_a_folder_named_best_has_its_own_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("env_id: Other-v0\n")
    folder = ModelDir(tmp_path / "best")
    folder.root.mkdir()
    folder.policy_zip.write_bytes(b"")
    folder.config.write_text(OURS)
    assert find_run(folder.root).settings.env_id == "Pendulum-v1"


def test_an_exported_file_on_its_own_has_no_run(tmp_path: Path) -> None:
    onnx = tmp_path / "policy.onnx"
    onnx.write_bytes(b"")
    assert run_of_exported(onnx) is None
    with pytest.raises(ModelDirError, match=r"without its policy\.zip"):
        find_run(onnx)


def test_an_exported_file_keeps_its_run_when_the_zip_is_removed(ours: ModelDir) -> None:
    ours.policy_zip.unlink()
    run = run_of_exported(ours.onnx)
    assert run is not None
    assert run.settings.env_kwargs == {"g": 2.0}


def test_the_configuration_is_read_once(ours: ModelDir, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []

    def counted(path: Path) -> dict[str, Any]:
        reads.append(path)
        return read_yaml(path)

    monkeypatch.setattr("trpo_deploy.files.runs.read_yaml", counted)
    run = find_run(ours.root)
    assert not reads
    for _ in range(3):
        assert run.settings.env_id == "Pendulum-v1"
    assert reads == [ours.config]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("frame_stack: two\n", "frame_stack='two': expected an integer above zero"),
        ("frame_stack: -1\n", "frame_stack=-1: expected an integer above zero"),
        ("env_kwargs: [g]\n", r"env_kwargs=\['g'\]: expected a mapping"),
    ],
)
def test_a_setting_of_the_wrong_type_is_named(config: str, says: str, ours: ModelDir) -> None:
    ours.config.write_text(config)
    with pytest.raises(ConfigError, match=says):
        _ = find_run(ours.root).settings


@pytest.mark.parametrize(
    ("normalize", "expected"),
    [
        ("true", True),
        ("false", False),
        ("{norm_obs: false}", False),
        ("{norm_reward: false}", True),
        ("\"{'norm_obs': False, 'norm_reward': True}\"", False),
        ('"dict(norm_obs=False)"', False),
        ("\"{'norm_obs': True}\"", True),
    ],
)
def test_every_form_of_normalize_is_understood(
    normalize: str, expected: bool, ours: ModelDir
) -> None:
    ours.config.write_text(f"normalize: {normalize}\n")
    assert find_run(ours.root).settings.normalizes is expected


def test_a_run_without_configuration_has_the_default_settings(tmp_path: Path) -> None:
    (tmp_path / "policy.zip").write_bytes(b"")
    run = find_run(tmp_path)
    assert (run.config, run.settings.env_id, run.settings.env_kwargs) == (None, None, {})


def test_statistics_that_the_user_names_are_used(ours: ModelDir, tmp_path: Path) -> None:
    other = tmp_path / "other.pkl"
    with pytest.raises(ModelDirError, match="--vecnormalize takes a statistics file"):
        find_run(ours.root, other)
    other.write_bytes(b"")
    run: Run = find_run(ours.root, other)
    assert run.vecnormalize == other
    assert run.policy_zip == ours.policy_zip


def test_a_source_without_exactly_one_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelDirError, match="does not exist"):
        find_run(tmp_path / "missing")
    with pytest.raises(ModelDirError, match="found: none"):
        find_run(tmp_path)
    for name in ("a.zip", "b.zip"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelDirError, match=r"found: a\.zip, b\.zip"):
        find_run(tmp_path)
