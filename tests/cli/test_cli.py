"""The command line as a user meets it: what works, and every mistake as one clear line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from tests.command import hear_ctrl_c, run_cli
from trpo_deploy import OnnxPolicy
from trpo_deploy.files.model_dir import ModelDir


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelDir:
    """A model folder that ``trpo-deploy train`` wrote, exported and certified."""
    folder = ModelDir(tmp_path_factory.mktemp("models") / "cartpole")
    run = run_cli(
        *("train", "CartPole-v1", "-o", folder.root, "-n", 2048, "--eval-every", 1024),
        *("--eval-episodes", 3, "--seed", 3),
    )
    assert run.code == 0, run.error
    assert "certificate: the same policy" in run.output
    assert f"trpo-deploy serve {folder.root}" in run.output
    return folder


def test_help_names_every_command() -> None:
    run = run_cli("--help")
    assert run.code == 0
    for command in ("train", "evaluate", "export", "verify", "inspect", "serve", "demo"):
        assert command in run.output


def test_wrong_usage_exits_with_two() -> None:
    assert run_cli("train").code == 2
    assert run_cli("export", "x.zip", "--nonsense").code == 2


def test_both_backends_play_the_same_episodes(model: ModelDir) -> None:
    results = []
    for backend in ("onnx", "torch"):
        run = run_cli("evaluate", model.root, "--backend", backend, "--episodes", 5, "--json")
        assert run.code == 0, run.error
        results.append(json.loads(run.output))  # one object and nothing else
    assert results[0]["returns"] == results[1]["returns"]
    assert results[0]["env_id"] == "CartPole-v1"
    sampled = run_cli("evaluate", model.root, "--backend", "torch", "--stochastic", "--json")
    assert json.loads(sampled.output)["returns"] != results[1]["returns"]


def test_verify_tells_one_policy_from_another(model: ModelDir, tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.json"
    same = run_cli("verify", model.root, model.onnx, "-o", certificate)
    assert same.code == 0, same.error
    assert json.loads(certificate.read_text())["verdict"] == "pass"
    # One bias a thousandth off: close, and not the same.
    other = onnx.load(model.onnx)
    bias = next(tensor for tensor in other.graph.initializer if tensor.name == "/actor/0/bias")
    changed = onnx.numpy_helper.to_array(bias) + np.float32(1e-3)
    bias.CopyFrom(onnx.numpy_helper.from_array(changed, bias.name))
    onnx.save(other, tmp_path / "other.onnx")
    run = run_cli("verify", model.root, tmp_path / "other.onnx")
    assert run.code == 1
    assert "NOT the same policy" in run.output


def test_inspect_shows_what_goes_in_and_out(model: ModelDir) -> None:
    run = run_cli("inspect", model.root)
    assert run.code == 0, run.error
    for text in ("obs: float32 (batch, 4)", "action: int64 (batch)", "CartPole-v1"):
        assert text in run.output
    spec = json.loads(run_cli("inspect", model.onnx, "--json").output)
    assert spec["outputs"] == [{"name": "action", "dtype": "int64", "shape": ["batch"]}]


def test_inspect_and_predict_need_no_torch(model: ModelDir) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'stable_baselines3', 'onnx', 'gymnasium', 'bentoml'):\n"
        "    sys.modules[name] = None\n"
        "from trpo_deploy.cli.app import main\n"
        f"sys.argv = ['trpo-deploy', 'inspect', {str(model.onnx)!r}]\n"
        "main()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "obs: float32" in run.stdout, run.stderr


def test_the_exported_file_plays_as_in_the_readme(model: ModelDir) -> None:
    policy = OnnxPolicy(model.onnx)
    with gymnasium.make("CartPole-v1") as env:
        observation, _ = env.reset(seed=0)
        action, _ = policy.predict(observation)
        env.step(action)


# --- mistakes: exit code 1, one line, nothing half-written ------------------------------------


def test_an_unknown_environment(tmp_path: Path) -> None:
    run = run_cli("train", "CartPol-v1", "-o", tmp_path / "m")
    run.assert_one_clear_line("CartPol-v1", "CartPole")
    assert not (tmp_path / "m").exists()


def test_an_action_space_that_trpo_does_not_take(tmp_path: Path) -> None:
    (tmp_path / "tuples.py").write_text(
        "import gymnasium\n"
        "from gymnasium import spaces\n"
        "class Tuples(gymnasium.Env):\n"
        "    observation_space = spaces.Box(-1, 1, (2,))\n"
        "    action_space = spaces.Tuple((spaces.Discrete(2),))\n"
        "gymnasium.register('Tuples-v0', entry_point=Tuples)\n"
    )
    run = run_cli("train", "tuples:Tuples-v0", "-o", tmp_path / "m", cwd=tmp_path)
    run.assert_one_clear_line("Tuple", "Discrete", "wrap")
    assert not (tmp_path / "m").exists()


def test_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    run = run_cli("train", "CartPole-v1", "-o", tmp_path)
    run.assert_one_clear_line("not empty", "--force")
    run_cli("train", "CartPole-v1", "-o", tmp_path, "--force").assert_one_clear_line("no model")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("content", "says"), [(b"hello", "no policy zip"), (b"", "no policy zip"), (None, "exist")]
)
def test_a_source_that_is_no_policy(content: bytes | None, says: str, tmp_path: Path) -> None:
    source = tmp_path / "policy.zip"
    if content is not None:
        source.write_bytes(content)
    run = run_cli("export", source, "-o", tmp_path / "policy.onnx")
    run.assert_one_clear_line(says)
    assert not (tmp_path / "policy.onnx").exists()


def test_a_truncated_zip(model: ModelDir, tmp_path: Path) -> None:
    (tmp_path / "policy.zip").write_bytes(model.policy_zip.read_bytes()[:-500])
    run = run_cli("export", tmp_path / "policy.zip", "-o", tmp_path / "policy.onnx")
    run.assert_one_clear_line("truncated")
    assert [path.name for path in tmp_path.iterdir()] == ["policy.zip"]


def test_an_onnx_file_without_the_spec(model: ModelDir, tmp_path: Path) -> None:
    stripped = onnx.load(model.onnx)
    del stripped.metadata_props[:]
    onnx.save(stripped, tmp_path / "policy.onnx")
    for command in ("inspect", "serve", "evaluate"):
        run_cli(command, tmp_path / "policy.onnx").assert_one_clear_line("metadata", "export")
    run_cli("verify", model.root, tmp_path / "policy.onnx").assert_one_clear_line("metadata")


def test_a_file_that_is_no_onnx(tmp_path: Path) -> None:
    (tmp_path / "policy.onnx").write_text("hello")
    for command in ("inspect", "serve", "evaluate"):
        run_cli(command, tmp_path / "policy.onnx").assert_one_clear_line("no ONNX")


def test_a_port_in_use(model: ModelDir) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run_cli("serve", model.root, "--port", port).assert_one_clear_line(str(port), "in use")


def test_a_missing_extra(tmp_path: Path) -> None:
    """As after ``pip install trpo-deploy`` alone: the line says what to install."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "from importlib import metadata\n"
        "gone = ('torch', 'stable_baselines3', 'onnx', 'bentoml', 'gymnasium')\n"
        "real = metadata.Distribution.from_name\n"
        "def from_name(name):\n"
        "    if name.replace('-', '_') in gone: raise metadata.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "metadata.Distribution.from_name = from_name\n"
        "for name in gone: sys.modules[name] = None\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    for command, extra in (
        (("train", "CartPole-v1", "-o", "m"), "train,export"),
        (("export", "policy.zip"), "export"),
        (("evaluate", "m"), "train"),
        (("serve", "m"), "serve"),
        (("demo", "-o", "m"), "train,export,serve"),
    ):
        run = subprocess.run(
            [sys.executable, "-m", "trpo_deploy", *command],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        assert run.returncode == 1
        assert f'pip install "trpo-deploy[{extra}]"' in run.stderr
        assert len(run.stderr.splitlines()) == 1


def test_ctrl_c_leaves_a_policy_and_no_half_written_file(tmp_path: Path) -> None:
    import signal
    import time

    folder = ModelDir(tmp_path / "m")
    process = subprocess.Popen(
        [sys.executable, "-m", "trpo_deploy", "train", "CartPole-v1", "-o", str(folder.root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )
    deadline = time.monotonic() + 120
    while not folder.progress.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in error
    assert folder.policy_zip.is_file()
    assert not list(folder.root.rglob("*.tmp"))


@pytest.mark.slow
def test_the_demo_goes_the_whole_way(tmp_path: Path) -> None:
    run = run_cli("demo", "-o", tmp_path / "demo")
    assert run.code == 0, run.error
    for text in ("return in training", "return over HTTP", "the same policy", "try next"):
        assert text in run.output
    assert (tmp_path / "demo" / "certificate.json").is_file()
