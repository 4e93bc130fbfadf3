"""Import cost: the core and the command line load no heavy package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[1] / "models" / "Hopper-v5"
HEAVY = {"torch", "stable_baselines3", "onnx", "gymnasium", "bentoml", "matplotlib"}


def loaded_by(program: str) -> set[str]:
    """Top-level modules that a new interpreter has loaded at the end of a program."""
    code = f"{program}\nimport sys\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in run.stdout.split()}


def loaded_after(*modules: str) -> set[str]:
    """Top-level modules that are loaded after importing some modules in a new interpreter."""
    return loaded_by(f"import {', '.join(modules)}")


def test_core_and_command_line_and_service_load_no_heavy_package() -> None:
    modules = ("trpo_deploy", "trpo_deploy.cli.app", "trpo_deploy.runtime", "trpo_deploy.serve")
    assert not loaded_after(*modules) & HEAVY


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("module", ["trpo_deploy.runtime", "onnxruntime"])
def test_the_runtime_starts_no_telemetry(tmp_path: Path, module: str) -> None:
    code = (
        f"import os, trpo_deploy, {module}\n"
        "files = [os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')]\n"
        "print(len(os.listdir('/proc/self/task')), *files, sep='\\n')"
    )
    names = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    clean = {name: value for name, value in os.environ.items() if name not in names}
    environment = {**clean, "HOME": str(tmp_path), "OPENBLAS_NUM_THREADS": "1"}
    threads, *files = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout.split()
    assert threads == "1"
    assert not [file for file in files if file.startswith(str(tmp_path))]
    assert not list(tmp_path.iterdir())


AS_ON_WINDOWS = """
import sys
import multiprocessing, subprocess, sysconfig, tempfile
import onnxruntime, packaging.requirements, rich.console, typer
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
sysconfig.get_config_vars()
sys.platform = "win32"
"""
"""What Windows lacks, after the imports that are another platform's there."""


def run_as_on_windows(*lines: str) -> subprocess.CompletedProcess[str]:
    code = "\n".join((AS_ON_WINDOWS, *lines))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_the_core_needs_no_module_that_windows_lacks() -> None:
    run = run_as_on_windows(
        "from trpo_deploy import OnnxPolicy",
        "from trpo_deploy.runtime import Controller",
        "from trpo_deploy.files import exported, model_dir, runs",
        f"print(OnnxPolicy({str(MODEL / 'policy.onnx')!r}).predict([0.0] * 11)[0].shape)",
        "from trpo_deploy.cli.app import main",
        f"sys.argv = ['trpo-deploy', 'inspect', {str(MODEL)!r}]",
        "main()",
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("(3,)\n")
    assert "TRPO on Hopper-v5" in run.stdout


@pytest.mark.parametrize("command", ["serve", "bundle"])
def test_the_service_says_that_it_needs_linux(command: str) -> None:
    run = run_as_on_windows(
        "from trpo_deploy.cli.app import main",
        f"sys.argv = ['trpo-deploy', {command!r}, {str(MODEL)!r}]",
        "main()",
    )
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("error: the service and its bundles need Linux, and this is win32")


def test_training_loads_onnxruntime_only_for_the_first_update() -> None:
    """onnxruntime starts a thread, which is unsafe for environments in forked processes."""
    modules = ("trpo_deploy.train.algorithm.trpo", "trpo_deploy.train.vec_env.make")
    loaded = loaded_after(*modules)
    assert "torch" in loaded
    assert "onnxruntime" not in loaded


def test_an_exported_file_is_played_without_torch() -> None:
    loaded = loaded_by(
        "from pathlib import Path\n"
        "from trpo_deploy.play import evaluate\n"
        f"evaluate(Path({str(MODEL)!r}), episodes=1)"
    )
    assert "gymnasium" in loaded
    assert not {"torch", "stable_baselines3"} & loaded


def test_a_learning_curve_is_drawn_without_scipy() -> None:
    loaded = loaded_after("trpo_deploy.train.run.plots")
    assert "matplotlib" in loaded
    assert "scipy" not in loaded


def test_the_package_exports_exactly_its_public_names() -> None:
    import trpo_deploy

    assert dir(trpo_deploy) == ["OnnxPolicy", "PolicySpec", "TRPO", "errors"]
    for name in trpo_deploy.__all__:
        assert getattr(trpo_deploy, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'PPO'"):
        trpo_deploy.PPO  # noqa: B018
