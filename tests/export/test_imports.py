"""Importing parts of the export package stays light."""

from __future__ import annotations

import subprocess
import sys

import pytest

from trpo_deploy import export

HEAVY = ("torch", "onnx", "onnxruntime", "stable_baselines3", "gymnasium")


@pytest.mark.parametrize("module", ["trpo_deploy.export", "trpo_deploy.export.policy.network"])
def test_the_plain_policy_representation_needs_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_every_public_name_is_resolved_on_first_use() -> None:
    assert dir(export) == sorted(export.__all__)
    for name in export.__all__:
        assert getattr(export, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Profile'"):
        export.Profile  # noqa: B018
