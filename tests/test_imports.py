"""What importing costs: the core and the command line stay light."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "stable_baselines3", "onnx", "gymnasium", "bentoml", "matplotlib")


@pytest.mark.parametrize(
    "module", ["trpo_deploy", "trpo_deploy.cli.app", "trpo_deploy.runtime", "trpo_deploy.serve"]
)
def test_importing_brings_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


@pytest.mark.parametrize(
    "module", ["trpo_deploy.train.algorithm.trpo", "trpo_deploy.train.vec_env.make"]
)
def test_training_brings_no_onnxruntime_before_the_first_update(module: str) -> None:
    """It starts a thread, which environments in processes and programs that fork do without."""
    code = f"import sys, {module}; print('onnxruntime' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_the_public_surface() -> None:
    import trpo_deploy

    assert dir(trpo_deploy) == ["OnnxPolicy", "PolicySpec", "TRPO", "errors"]
    for name in trpo_deploy.__all__:
        assert getattr(trpo_deploy, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'PPO'"):
        trpo_deploy.PPO  # noqa: B018


def test_a_missing_extra_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from trpo_deploy import extras
    from trpo_deploy.errors import MissingExtraError

    monkeypatch.setattr(
        extras, "find_spec", lambda name: None if name == "matplotlib" else object()
    )
    extras.require("export")
    with pytest.raises(MissingExtraError) as caught:
        extras.require("train", "export")
    assert str(caught.value) == (
        'matplotlib not installed; run: pip install "trpo-deploy[train,export]"'
    )
