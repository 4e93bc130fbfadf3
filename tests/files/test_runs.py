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
    with pytest.raises(ModelDirError, match="has no policy zip"):
        find_run(tmp_path)
    for name in ("a.zip", "b.zip"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelDirError, match=r"give one of them: a\.zip, b\.zip"):
        find_run(tmp_path)


def hub(folder: Path) -> Path:
    """The layout in which RL Zoo pushes a run to the Hugging Face Hub."""
    (folder / "trpo-CartPole-v1").mkdir(parents=True)  # the zip's content
    for name in ("trpo-CartPole-v1.zip", "train_eval_metrics.zip", "vec_normalize.pkl"):
        (folder / name).write_bytes(b"")
    (folder / "config.yml").write_text("normalize: true\nframe_stack: 2\n")
    (folder / "args.yml").write_text("env: CartPole-v1\nenv_kwargs: null\n")
    (folder / "env_kwargs.yml").write_text("sutton_barto_reward: true\n")
    return folder


@pytest.mark.parametrize("given", ["", "trpo-CartPole-v1.zip"])
def test_a_run_from_the_hub_is_found(given: str, tmp_path: Path) -> None:
    run = find_run(hub(tmp_path / "repository") / given)
    assert run.policy_zip.name == "trpo-CartPole-v1.zip"
    assert run.vecnormalize == tmp_path / "repository" / "vec_normalize.pkl"
    assert run.settings.env_id == "CartPole-v1"
    assert run.settings.env_kwargs == {"sutton_barto_reward": True}
    assert run.settings.frame_stack == 2
    assert run.settings.normalizes


@pytest.mark.parametrize("prefix", ["rl_model", "a_b", "ppo_lr0.0003", ""])
def test_a_checkpoint_has_its_own_statistics(prefix: str, tmp_path: Path) -> None:
    """As ``CheckpointCallback(save_vecnormalize=True)`` names them."""
    for steps in (8, 16):
        (tmp_path / f"{prefix}_{steps}_steps.zip").write_bytes(b"")
        (tmp_path / f"{prefix}_vecnormalize_{steps}_steps.pkl").write_bytes(b"")
    (tmp_path / "vecnormalize.pkl").write_bytes(b"")  # of the end of the training
    found = find_run(tmp_path / f"{prefix}_16_steps.zip").vecnormalize
    assert found == tmp_path / f"{prefix}_vecnormalize_16_steps.pkl"
    found.unlink()
    found = find_run(tmp_path / f"{prefix}_16_steps.zip").vecnormalize
    assert found == tmp_path / "vecnormalize.pkl"


@pytest.mark.parametrize("name", ["vec_normalize.pkl", "vecnormalize.pkl"])
@pytest.mark.parametrize("policy", ["model.zip", "best_model.zip", "policy.zip", "ppo_lr0.0003"])
def test_statistics_beside_the_zip_are_found(policy: str, name: str, tmp_path: Path) -> None:
    for each in (policy, name):
        (tmp_path / each).write_bytes(b"")
    assert find_run(tmp_path / policy).vecnormalize == tmp_path / name


@pytest.mark.parametrize("name", ["best_model.zip", "rl_model_500_steps.zip"])
def test_every_policy_of_an_rl_zoo_run_has_its_statistics(name: str, zoo: Path) -> None:
    (zoo / name).write_bytes(b"")
    run = find_run(zoo / name)
    assert run.vecnormalize == zoo / "FrozenLake-v1" / "vecnormalize.pkl"
    assert run.settings.env_id == "FrozenLake-v1"


def test_another_zip_in_an_rl_zoo_run_is_not_of_the_run(zoo: Path) -> None:
    (zoo / "mine.zip").write_bytes(b"")
    run = find_run(zoo / "mine.zip")
    assert (run.vecnormalize, run.config) == (None, None)


def test_two_candidates_are_refused_by_name(zoo: Path) -> None:
    other = zoo / "vec_normalize.pkl"
    other.write_bytes(b"")
    for policy in ("FrozenLake-v1.zip", "best_model.zip"):
        run = find_run(zoo / policy)
        with pytest.raises(ModelDirError, match=r"vec_normalize\.pkl or .*FrozenLake-v1.vecnorm"):
            _ = run.vecnormalize
        assert find_run(zoo / policy, other).vecnormalize == other


def test_the_best_model_of_one_of_two_runs_is_refused(zoo: Path) -> None:
    """RL Zoo with ``--exp-id -1`` puts all runs into one folder."""
    (zoo / "Ant-v4").mkdir()
    for name in ("config.yml", "vecnormalize.pkl"):
        (zoo / "Ant-v4" / name).write_bytes(b"")
    with pytest.raises(ModelDirError, match=r"Ant-v4.*FrozenLake-v1.*--vecnormalize"):
        _ = find_run(zoo / "best_model.zip").vecnormalize


def test_an_id_with_a_slash_or_a_module_is_read_from_the_arguments(tmp_path: Path) -> None:
    inner = tmp_path / "ALE-Pong-v5"
    inner.mkdir()
    (tmp_path / "ALE-Pong-v5.zip").write_bytes(b"")
    (inner / "config.yml").write_text("n_envs: 8\n")
    for env_id in ("ALE/Pong-v5", "ale_py:ALE/Pong-v5"):
        (inner / "args.yml").write_text(f"env: {env_id}\n")
        assert find_run(tmp_path).settings.env_id == env_id
    (inner / "args.yml").write_text("env: Other-v0\n")
    assert find_run(tmp_path).settings.env_id == "ALE-Pong-v5"


STACK = "stable_baselines3.common.vec_env.VecFrameStack"


@pytest.mark.parametrize(
    ("setting", "frames"),
    [
        ("null", 1),
        (f"{{{STACK}: {{n_stack: 4}}}}", 4),
        ("[{stable_baselines3.common.vec_env.vec_frame_stack.VecFrameStack: {n_stack: 3}}]", 3),
        (f"[stable_baselines3.common.vec_env.VecMonitor, {{{STACK}: {{n_stack: 2}}}}]", 2),
        ("stable_baselines3.common.vec_env.VecCheckNan", 1),
    ],
)
def test_a_stack_in_vec_env_wrapper_is_read(setting: str, frames: int, zoo: Path) -> None:
    (zoo / "FrozenLake-v1" / "config.yml").write_text(f"vec_env_wrapper: {setting}\n")
    assert find_run(zoo).settings.frame_stack == frames


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("my.vec.Wrapper", r"my\.vec\.Wrapper, whose effect .* is not known"),
        ("[stable_baselines3.common.vec_env.VecTransposeImage]", "VecTransposeImage, whose effect"),
        ("other.VecFrameStack", r"other\.VecFrameStack, whose effect"),
        (f"{{{STACK}: {{n_stack: 4, channels_order: first}}}}", "no other argument"),
        (STACK, "expected n_stack"),
        (f"[{{{STACK}: {{n_stack: 2}}}}, {{{STACK}: {{n_stack: 2}}}}]", "stacks frames 2 times"),
        (f"{{{STACK}: {{n_stack: 2}}}}\nframe_stack: 2", "stacks frames twice"),
        ("7", "expected package.Class"),
        ("{a: {}, b: {}}", "expected package.Class"),
    ],
)
def test_another_vec_env_wrapper_is_refused_by_name(setting: str, says: str, zoo: Path) -> None:
    (zoo / "FrozenLake-v1" / "config.yml").write_text(f"vec_env_wrapper: {setting}\n")
    with pytest.raises(ConfigError, match=says):
        _ = find_run(zoo).settings


@pytest.mark.parametrize("name", ["ppo_lr0.0003", "ppo_lr0.0003.zip"])
def test_a_name_with_a_dot_leads_from_the_exported_file_to_its_zip(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"")
    run = run_of_exported(tmp_path / "ppo_lr0.0003.onnx")
    assert run is not None
    assert run.policy_zip == tmp_path / name
