"""Import cost: the core and the command line load no heavy package."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "stable_baselines3", "onnx", "gymnasium", "bentoml", "matplotlib")


@pytest.mark.parametrize(
    "module", ["trpo_deploy", "trpo_deploy.cli.app", "trpo_deploy.runtime", "trpo_deploy.serve"]
)
def test_import_loads_no_heavy_package(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


@pytest.mark.parametrize(
    "module", ["trpo_deploy.train.algorithm.trpo", "trpo_deploy.train.vec_env.make"]
)
def test_training_loads_onnxruntime_only_for_the_first_update(module: str) -> None:
    """onnxruntime starts a thread, which is unsafe for environments in forked processes."""
    code = f"import sys, {module}; print('onnxruntime' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_the_package_exports_exactly_its_public_names() -> None:
    import trpo_deploy

    assert dir(trpo_deploy) == ["OnnxPolicy", "PolicySpec", "TRPO", "errors"]
    for name in trpo_deploy.__all__:
        assert getattr(trpo_deploy, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'PPO'"):
        trpo_deploy.PPO  # noqa: B018
