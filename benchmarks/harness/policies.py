"""Policies for the serving benchmarks: random weights, written without any training."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the tests are not installed

from tests.runtime.policy_files import box, write_policy  # noqa: E402
from trpo_deploy.spec.spaces import BoxSpace  # noqa: E402

FRAME = BoxSpace(np.zeros((84, 84, 4), np.uint8), np.full((84, 84, 4), 255, np.uint8))


def write_small(folder: Path) -> Path:
    """17 floats, one tanh layer of 64, 6 floats, as ``small/policy.onnx``."""
    action = box(6, low=-1, high=1)
    return write_policy(folder / "small" / "policy.onnx", box(17), action, hidden=64)


def write_small_models(folder: Path, count: int) -> Path:
    """Models like that of :func:`write_small`, each with weights of its own, in one folder."""
    action = box(6, low=-1, high=1)
    for seed in range(count):
        path = folder / f"model-{seed:04}" / "policy.onnx"
        write_policy(path, box(17), action, hidden=64, seed=seed)
    return folder


def write_frame(folder: Path) -> Path:
    """An 84x84x4 image, one tanh layer of 8, 6 floats, as ``frame/policy.onnx``."""
    action = box(6, low=-1, high=1)
    return write_policy(folder / "frame" / "policy.onnx", FRAME, action, hidden=8)
