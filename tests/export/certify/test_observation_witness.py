"""The training's own observations tell statistics, stacks and layouts that are wrong or missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
)

from tests.command import run_cli
from tests.export.policies import BOX, FEATURES, SpaceEnv
from trpo_deploy.errors import CertificateError, ExportError
from trpo_deploy.export import Export, SourceOptions, export_model, export_policy
from trpo_deploy.files.runs import find_run

RAW, POLICYS = "witness: raw observations", "witness: observations of the policy"
WIDE = spaces.Box(-np.inf, np.inf, (3,), np.float32)
KEYS = spaces.Dict({"a": BOX, "b": spaces.Discrete(3)})
IMAGE = spaces.Box(0, 255, (36, 40, 3), np.uint8)


def environments(space: spaces.Space[Any], n_envs: int = 2) -> Any:
    return DummyVecEnv([lambda: SpaceEnv(space, spaces.Discrete(2))] * n_envs)


def trained(env: Any, **kwargs: Any) -> Any:
    space = env.observation_space
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    if space.shape is not None and len(space.shape) == 3 and space.dtype == np.uint8:
        policy = "CnnPolicy"
    network = {"features_extractor_kwargs": FEATURES.get(policy, {})}
    model = PPO(policy, env, n_steps=8, batch_size=16, n_epochs=1, seed=0, policy_kwargs=network)
    return model.learn(16, **kwargs)


def export(folder: Path, **reading: Any) -> Export:
    return export_policy(
        find_run(folder / "model.zip"), folder / "out.onnx", reading=SourceOptions(**reading)
    )


def witnesses(result: Export) -> dict[str, Any]:
    assert result.certificate is not None
    return {
        each.name: each
        for each in result.certificate.checks
        if each.name.startswith("witness: ") and "observations" in each.name
    }


@pytest.mark.parametrize(
    ("make", "raw"),
    [
        (lambda: environments(BOX), False),
        (lambda: environments(KEYS), False),
        (lambda: environments(spaces.MultiDiscrete([2, 5])), False),
        (lambda: environments(IMAGE), False),
        (lambda: VecNormalize(environments(BOX)), True),
        (lambda: VecNormalize(environments(BOX), norm_obs=False), True),
        (lambda: VecNormalize(environments(KEYS), norm_obs_keys=["a"]), True),
        (lambda: VecNormalize(environments(spaces.Box(-1.0, 1.0, (3,), np.float64))), True),
        (lambda: VecNormalize(environments(BOX), clip_obs=0.5), True),
        (lambda: VecNormalize(VecTransposeImage(environments(IMAGE))), True),
    ],
)
def test_what_training_saw_agrees_with_the_right_file(
    make: Callable[[], Any], raw: bool, tmp_path: Path
) -> None:
    model = trained(make())
    model.save(tmp_path / "model.zip")
    if raw:
        model.get_vec_normalize_env().save(str(tmp_path / "vec_normalize.pkl"))
    found = witnesses(export(tmp_path, image_layout="hwc"))
    assert [(name, each.passed) for name, each in found.items()] == [
        *([(RAW, True)] if raw else []),
        (POLICYS, True),
    ]
    in_memory = witnesses(export_model(model, tmp_path / "memory.onnx"))
    assert {name: each.measured for name, each in in_memory.items()} == {
        name: each.measured for name, each in found.items()
    }


def stacked_first() -> Any:
    return VecNormalize(VecFrameStack(environments(WIDE), 4))


def normalised_first() -> Any:
    return VecFrameStack(VecNormalize(environments(WIDE)), 4)


@pytest.mark.parametrize("make", [stacked_first, normalised_first])
def test_a_forgotten_frame_stack_is_named(make: Callable[[], Any], tmp_path: Path) -> None:
    """Only rewards were normalised, so no statistics can tell the stack."""
    env = make()
    model = trained(env)
    model.save(tmp_path / "model.zip")
    normalize = model.get_vec_normalize_env()
    normalize.norm_obs = False
    normalize.save(str(tmp_path / "vecnormalize.pkl"))
    assert witnesses(export(tmp_path, frame_stack=4))[RAW].passed
    if make is normalised_first:
        with pytest.raises(CertificateError, match="likely missing: --frame-stack 4"):
            export(tmp_path)


def test_a_normalised_policy_without_statistics_is_refused(tmp_path: Path) -> None:
    trained(VecNormalize(environments(WIDE))).save(tmp_path / "model.zip")
    run = run_cli("export", tmp_path / "model.zip", "-o", tmp_path / "out.onnx")
    run.assert_one_clear_line("trained with VecNormalize", "--vecnormalize", "--no-normalize-check")
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]
    arguments = ("-o", tmp_path / "out.onnx", "--no-normalize-check")
    assert run_cli("export", tmp_path / "model.zip", *arguments).code == 0
    certificate = json.loads((tmp_path / "out.certificate.json").read_text())
    (raw,) = (each for each in certificate["checks"] if each["name"] == RAW)
    assert raw["measured"]["not normalised"] == "insisted on with --no-normalize-check"


def test_a_model_loaded_without_its_normaliser_is_refused(tmp_path: Path) -> None:
    trained(VecNormalize(environments(WIDE))).save(tmp_path / "model.zip")
    loaded = PPO.load(tmp_path / "model.zip", env=environments(WIDE))
    with pytest.raises(ExportError, match="trained with VecNormalize"):
        export_model(loaded, tmp_path / "out.onnx")
    reading = SourceOptions(normalize_check=False)
    export_model(loaded, tmp_path / "out.onnx", reading=reading)


def test_statistics_of_another_model_in_the_folder_are_refused(tmp_path: Path) -> None:
    trained(environments(WIDE)).save(tmp_path / "model.zip")
    trained(VecNormalize(environments(WIDE))).get_vec_normalize_env().save(
        str(tmp_path / "vec_normalize.pkl")
    )
    with pytest.raises(ExportError, match="trained without it"):
        export(tmp_path)
    found = witnesses(export(tmp_path, normalize_check=False))
    assert "kept no raw observation" in found[RAW].note


def test_a_resumed_run_that_kept_no_raw_observation_is_exported(tmp_path: Path) -> None:
    """Runs that version 0.1 resumed: the configuration agrees with the statistics."""
    model = trained(VecNormalize(environments(WIDE)))
    model._last_original_obs = None
    model.save(tmp_path / "policy.zip")
    model.get_vec_normalize_env().save(str(tmp_path / "vecnormalize.pkl"))
    with pytest.raises(ExportError, match="trained without it"):
        export_policy(find_run(tmp_path), tmp_path / "policy.onnx")
    (tmp_path / "config.yaml").write_text("normalize: true\n")
    export_policy(find_run(tmp_path), tmp_path / "policy.onnx")


def test_observations_beyond_the_clip_fail(tmp_path: Path) -> None:
    """The statistics are of a run that clipped earlier."""
    model = trained(VecNormalize(environments(WIDE), clip_obs=10.0))
    model.save(tmp_path / "model.zip")
    normalize = model.get_vec_normalize_env()
    normalize.clip_obs = float(np.abs(model._last_obs).max() / 2)
    normalize.save(str(tmp_path / "vecnormalize.pkl"))
    with pytest.raises(CertificateError, match="the normaliser clips at"):
        export(tmp_path)


@pytest.mark.parametrize(
    ("space", "shift", "says"),
    [
        (spaces.Box(0.0, 1.0, (3,)), -2.0, r"far outside of \[0, 1\]"),
        (spaces.Box(0.0, np.inf, (3,)), -9.0, r"far outside of \[0, inf\]"),
        (spaces.Discrete(3), 7, r"far outside of \[0, 2\]"),
        (spaces.MultiBinary(3), -1, r"far outside of \[0, 1\]"),
    ],
)
def test_observations_far_outside_of_the_space_fail(
    space: spaces.Space[Any], shift: float, says: str, tmp_path: Path
) -> None:
    model = trained(environments(space))
    model._last_obs = model._last_obs + np.asarray(shift, model._last_obs.dtype)
    model.save(tmp_path / "model.zip")
    with pytest.raises(CertificateError, match=says):
        export(tmp_path)
    accepted = witnesses(export(tmp_path, normalize_check=False))[POLICYS]
    assert accepted.measured["accepted"] == "insisted on with --no-normalize-check"


def test_bounds_that_are_a_little_too_narrow_pass(tmp_path: Path) -> None:
    """LunarLander's lander flies higher than its space says."""
    model = trained(environments(BOX))
    model._last_obs = np.full_like(model._last_obs, 1.9)
    model.save(tmp_path / "model.zip")
    assert witnesses(export(tmp_path))[POLICYS].passed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda seen: seen.astype(np.int64), "was int64 in training, the file assumes floating"),
        (lambda seen: seen[:, :2], r"had the shape \(2,\) in training, the file assumes \(3,\)"),
        (lambda seen: {"a": seen}, r"the keys were \['a'\] in training"),
    ],
)
def test_observations_of_another_form_fail(
    change: Callable[[Any], Any], says: str, tmp_path: Path
) -> None:
    model = trained(environments(WIDE))
    model._last_obs = change(model._last_obs)
    model.save(tmp_path / "model.zip")
    for normalize_check in (True, False):  # to insist on the normaliser does not help
        with pytest.raises(CertificateError, match=says):
            export(tmp_path, normalize_check=normalize_check)


def test_the_wrong_image_layout_is_named(tmp_path: Path) -> None:
    """The normaliser saw the raw images, whose rewards only it normalised."""
    model = trained(VecNormalize(environments(IMAGE), norm_obs=False))
    model.save(tmp_path / "model.zip")
    model.get_vec_normalize_env().save(str(tmp_path / "vecnormalize.pkl"))
    assert witnesses(export(tmp_path, image_layout="hwc"))[RAW].passed
    with pytest.raises(CertificateError, match="likely the wrong --image-layout"):
        export(tmp_path, image_layout="chw")


def test_a_model_that_was_never_trained_has_no_witness(tmp_path: Path) -> None:
    PPO("MlpPolicy", environments(WIDE)).save(tmp_path / "model.zip")
    found = witnesses(export(tmp_path))
    assert list(found) == [POLICYS]
    assert found[POLICYS].passed is None
    assert found[POLICYS].note == "no witness: the model kept no observation"


def test_checkpoints_of_sb3_are_exported_with_their_own_statistics(tmp_path: Path) -> None:
    callback = CheckpointCallback(4, str(tmp_path), "ppo_lr0.0003", save_vecnormalize=True)
    trained(VecNormalize(environments(WIDE)), callback=callback)
    for steps in (8, 16):
        policy_zip = tmp_path / f"ppo_lr0.0003_{steps}_steps.zip"
        result = export_policy(find_run(policy_zip), policy_zip.with_suffix(".onnx"))
        assert list(result.spec.source_sha256) == [
            policy_zip.name,
            f"ppo_lr0.0003_vecnormalize_{steps}_steps.pkl",
        ]
        assert all(each.passed for each in witnesses(result).values())


def test_agents_of_2021_agree_with_their_files(agents: Path, tmp_path: Path) -> None:
    for folder in sorted(agents.glob("*_1")):
        path = tmp_path / f"{folder.name}.onnx"
        result = export_policy(find_run(folder), path, steps=20, seconds=0)
        found = witnesses(result)
        assert all(each.passed for each in found.values())
        assert (RAW in found) == (result.spec.normalizer is not None)
        if RAW in found:
            (policy_zip,) = folder.glob("*.zip")
            alone = tmp_path / policy_zip.name
            alone.write_bytes(policy_zip.read_bytes())
            with pytest.raises(ExportError, match="trained with VecNormalize"):
                export_policy(find_run(alone), tmp_path / "alone.onnx")
