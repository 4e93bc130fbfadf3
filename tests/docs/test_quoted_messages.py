"""The messages that pages quote are those that a user gets. In a quote, "…" stands for any text."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import FlattenExtractor

from tests.command import run_cli
from tests.train.vec_env.helpers import make
from trpo_deploy import OnnxPolicy
from trpo_deploy.errors import TrpoDeployError
from trpo_deploy.extras import require
from trpo_deploy.runtime import Controller

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MODEL = ROOT / "models" / "Hopper-v5"
Provoke: TypeAlias = Callable[[Path], object]


class OwnExtractor(FlattenExtractor):
    """A class that is not on the allow-list."""


def command(*arguments: object) -> str:
    """What a command prints, if it fails."""
    run = run_cli(*arguments)
    assert run.code == 1
    return run.output + run.error


def export_without_statistics(folder: Path) -> object:
    shutil.copy(MODEL / "policy.zip", folder)
    return command("export", folder / "policy.zip")


def export_with_others_statistics(folder: Path) -> object:
    shutil.copy(MODEL / "vecnormalize.pkl", folder)
    PPO("MlpPolicy", "Hopper-v5", n_steps=8, batch_size=8).learn(8).save(folder / "ppo")
    return command("export", folder / "ppo.zip")


def export_own_class(folder: Path) -> object:
    settings = {"features_extractor_class": OwnExtractor}
    PPO("MlpPolicy", "CartPole-v1", policy_kwargs=settings).save(folder / "ppo")
    return command("export", folder / "ppo.zip")


def export_truncated(folder: Path) -> object:
    (folder / "half.zip").write_bytes((MODEL / "policy.zip").read_bytes()[:3000])
    return command("export", folder / "half.zip")


def inspect_damaged(folder: Path) -> object:
    (folder / "policy.onnx").write_bytes((MODEL / "policy.onnx").read_bytes()[:3000])
    return command("inspect", folder / "policy.onnx")


def inspect_foreign(folder: Path) -> object:
    graph = onnx.load(MODEL / "policy.onnx")
    del graph.metadata_props[:]
    onnx.save(graph, folder / "policy.onnx")
    return command("inspect", folder / "policy.onnx")


def serve_with_others_certificate(folder: Path) -> object:
    shutil.copy(MODEL / "policy.onnx", folder)
    shutil.copy(ROOT / "models" / "Hopper-v4" / "certificate.json", folder)
    return command("serve", folder, "--port", 0)


def verify_another(_: Path) -> object:
    other = ROOT / "models" / "Hopper-v4" / "policy.onnx"
    return command("verify", MODEL, other, "--steps", "1", "--seconds", "0")


def train_with_nan(_: Path) -> object:
    env = make("tests.train.vec_env.test_checked:Falls-v0", "sync", n_envs=1)
    env.reset()
    for _step in range(5):
        env.step(np.zeros(1, np.int64))
    raise AssertionError("the fifth step gives NaN")


def without_a_package(_: Path) -> object:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metadata, "version", missing)
        require("train")
    raise AssertionError("every package is missing")


def predict_nan(_: Path) -> object:
    return OnnxPolicy(MODEL / "policy.onnx").predict(np.full(11, np.nan))


def controller(**settings: Any) -> Controller:
    options: dict[str, Any] = {"period": 0.008, "safe_action": 0.0, **settings}
    return Controller(OnnxPolicy(MODEL / "policy.onnx"), **options)


def act_on_nan(_: Path) -> object:
    policy = OnnxPolicy(MODEL / "policy.onnx")
    names = [each.name for each in policy.spec.observation_components["obs"]][::-1]
    loop = controller(observation_order=names, max_age=0.1, on_fault="safe")
    broken = np.zeros(11)
    broken[3] = np.nan  # as on the page
    action = loop.act(broken, time.monotonic())
    assert loop.last_fault is not None
    return f"{action}\n{loop.last_fault.text}"


TROUBLESHOOTING: list[tuple[str, Provoke]] = [
    (
        "the policy was trained with VecNormalize, but its statistics were not found",
        export_without_statistics,
    ),
    (
        "there are statistics of VecNormalize, but the policy was trained without it",
        export_with_others_statistics,
    ),
    ("NOT the same policy", verify_another),
    ("spec: the file's …", verify_another),
    ("expected finite float32 numbers, received nan", predict_nan),
    (
        "environment 0 of 1 failed at its step …: the observation is nan at index 0; a policy "
        "cannot learn from this, check the environment",
        train_with_nan,
    ),
    ('… not installed; run: pip install "trpo-deploy[…]"', without_a_package),
    ("… is not a policy zip, or is truncated", export_truncated),
    (
        "… is a policy zip, not an ONNX file",
        lambda _: command("inspect", MODEL / "policy.zip"),
    ),
    ("the pickle refers to …, which is not on the allow-list", export_own_class),
    ("… is not an ONNX file that can be run", inspect_damaged),
    ("… has no 'trpo_deploy' metadata", inspect_foreign),
    ("… certifies another file", serve_with_others_certificate),
]
ROBOT: list[tuple[str, Provoke]] = [
    (
        "the order of the action does not have the file's 3 names, each once; missing: "
        "'thigh_joint', 'leg_joint', 'foot_joint'; unknown: 'foot', 'knee', 'hip'",
        lambda _: controller(action_order=["foot", "knee", "hip"]),
    ),
    (
        "the loop's period is 0.02 s (50 Hz), but the policy was trained with 0.008 s (125 Hz); "
        "run the loop at the policy's period",
        lambda _: controller(period=0.02),
    ),
    (
        "[0. 0. 0.]\nobservation 'obs': expected 'rooty.velocity' in [-…, …], received nan",
        act_on_nan,
    ),
]
QUOTED = [
    *(("troubleshooting.md", *quoted) for quoted in TROUBLESHOOTING),
    *(("tutorials/robot.md", *quoted) for quoted in ROBOT),
]


@pytest.mark.parametrize(("page", "quote", "provoke"), QUOTED)
def test_a_quoted_message_is_the_real_one(
    page: str, quote: str, provoke: Provoke, tmp_path: Path
) -> None:
    assert quote in (DOCS / page).read_text()
    try:
        message = str(provoke(tmp_path))
    except TrpoDeployError as error:
        message = str(error)
    assert re.search(re.escape(quote).replace("…", ".+"), message), message
