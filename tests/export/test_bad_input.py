"""An export that fails prints one clear line and leaves no file behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from tests.command import run_cli
from tests.export.policies import BOX, make_model, save, statistics_for
from trpo_deploy.errors import SpaceError
from trpo_deploy.export import export_policy
from trpo_deploy.files.runs import find_run


def test_statistics_of_another_shape_are_refused(tmp_path: Path) -> None:
    other = statistics_for(spaces.Box(-1.0, 1.0, (5,)))
    source = save(make_model(), tmp_path, other)
    with pytest.raises(SpaceError, match=r"\(5,\).*\(3,\)"):
        export_policy(source, tmp_path / "policy.onnx")
    run = run_cli("export", tmp_path)
    run.assert_one_clear_line("statistics", "(5,)", "(3,)")
    assert not (tmp_path / "policy.onnx").exists()


def zoo_folder(folder: Path, config: str) -> Path:
    """RL Zoo's layout: ENV_1/ENV.zip next to ENV_1/ENV/config.yml."""
    (folder / "Some-v0").mkdir(parents=True)
    make_model().save(folder / "Some-v0.zip")
    (folder / "Some-v0" / "config.yml").write_text(config)
    return folder


ZOO = (
    "!!python/object/apply:collections.OrderedDict\n- - - n_envs\n    - 2\n  - - normalize\n    - "
)


@pytest.mark.parametrize(
    "normalize", ["true", "dict(norm_obs=True, norm_reward=False)", "\"{'norm_reward': False}\""]
)
def test_a_normalised_run_without_statistics_is_refused(normalize: str, tmp_path: Path) -> None:
    folder = zoo_folder(tmp_path / "Some-v0_1", ZOO + normalize + "\n")
    run = run_cli("export", folder, "-o", tmp_path / "policy.onnx")
    run.assert_one_clear_line("statistics were not found", "--vecnormalize")
    assert not (tmp_path / "policy.onnx").exists()


@pytest.mark.parametrize(
    "normalize", ["false", "\"{'norm_obs': False, 'norm_reward': True}\"", "dict(norm_obs=False)"]
)
def test_a_run_without_observation_normalisation_needs_no_statistics(
    normalize: str, tmp_path: Path
) -> None:
    folder = zoo_folder(tmp_path / "Some-v0_1", ZOO + normalize + "\n")
    export_policy(find_run(folder), tmp_path / "policy.onnx")
    assert (tmp_path / "policy.onnx").exists()


def test_a_path_that_is_not_a_source_is_refused(tmp_path: Path) -> None:
    run_cli("export", tmp_path / "nothing").assert_one_clear_line("does not exist")
    run_cli("export", tmp_path).assert_one_clear_line("has no policy zip")
    (tmp_path / "policy.zip").write_bytes(b"PK")
    run_cli("export", tmp_path).assert_one_clear_line("truncated")
    assert [path.name for path in tmp_path.iterdir()] == ["policy.zip"]


def test_a_truncated_zip_is_refused(tmp_path: Path) -> None:
    save(make_model(), tmp_path)
    content = (tmp_path / "policy.zip").read_bytes()
    (tmp_path / "policy.zip").write_bytes(content[: len(content) // 2])
    run_cli("export", tmp_path).assert_one_clear_line("truncated")


def test_an_unwritable_output_path_is_named(tmp_path: Path) -> None:
    save(make_model(), tmp_path)
    (tmp_path / "file").write_text("")
    run = run_cli("export", tmp_path, "-o", tmp_path / "file" / "policy.onnx")
    run.assert_one_clear_line(str(tmp_path / "file"))


def test_verify_refuses_files_that_are_not_exported_policies(tmp_path: Path) -> None:
    save(make_model(), tmp_path)
    (tmp_path / "no.onnx").write_bytes(b"hello")
    run_cli("verify", tmp_path, tmp_path / "no.onnx").assert_one_clear_line(
        "no.onnx: the file is not an ONNX model"
    )
    run = run_cli("verify", tmp_path, tmp_path / "missing.onnx")
    run.assert_one_clear_line("missing.onnx")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = make_model(BOX, BOX)
    model.policy.log_std.data[:] = np.nan
    save(model, tmp_path)
    run_cli("export", tmp_path).assert_one_clear_line("log_std", "NaN")
