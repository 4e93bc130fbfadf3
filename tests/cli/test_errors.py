"""A mistake is one clear line and exit code 1; nothing half-written stays."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import onnx
import pytest

from tests.command import run_cli, run_process
from trpo_deploy.files.model_dir import ModelDir


def test_an_unknown_environment_suggests_a_known_one(tmp_path: Path) -> None:
    run = run_cli("train", "CartPol-v1", "-o", tmp_path / "m")
    run.assert_one_clear_line("CartPol-v1", "CartPole")
    assert not (tmp_path / "m").exists()


def test_an_unsupported_action_space_names_the_supported_ones(tmp_path: Path) -> None:
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


def test_training_never_replaces_a_folder_without_a_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    run = run_cli("train", "CartPole-v1", "-o", tmp_path)
    run.assert_one_clear_line("not empty", "--force")
    run_cli("train", "CartPole-v1", "-o", tmp_path, "--force").assert_one_clear_line("not a model")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"hello", "not a policy zip"), (b"", "not a policy zip"), (None, "exist")],
)
def test_a_file_that_is_not_a_policy_zip_is_named(
    content: bytes | None, says: str, tmp_path: Path
) -> None:
    source = tmp_path / "policy.zip"
    if content is not None:
        source.write_bytes(content)
    run = run_cli("export", source, "-o", tmp_path / "policy.onnx")
    run.assert_one_clear_line(says)
    assert not (tmp_path / "policy.onnx").exists()


def test_a_truncated_zip_is_called_truncated(model: ModelDir, tmp_path: Path) -> None:
    (tmp_path / "policy.zip").write_bytes(model.policy_zip.read_bytes()[:-500])
    run = run_cli("export", tmp_path / "policy.zip", "-o", tmp_path / "policy.onnx")
    run.assert_one_clear_line("truncated")
    assert [path.name for path in tmp_path.iterdir()] == ["policy.zip"]


def test_an_onnx_file_without_metadata_is_refused_by_every_command(
    model: ModelDir, tmp_path: Path
) -> None:
    stripped = onnx.load(model.onnx)
    del stripped.metadata_props[:]
    onnx.save(stripped, tmp_path / "policy.onnx")
    for command in ("inspect", "serve", "evaluate"):
        run_cli(command, tmp_path / "policy.onnx").assert_one_clear_line("metadata", "export")
    run_cli("verify", model.root, tmp_path / "policy.onnx").assert_one_clear_line("metadata")


def test_a_file_that_is_not_onnx_is_refused_by_every_command(tmp_path: Path) -> None:
    (tmp_path / "policy.onnx").write_text("hello")
    for command in ("inspect", "serve", "evaluate"):
        run_cli(command, tmp_path / "policy.onnx").assert_one_clear_line("not an ONNX")


def test_a_port_in_use_is_named(model: ModelDir) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run_cli("serve", model.root, "--port", port).assert_one_clear_line(str(port), "in use")


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("train", "CartPole-v1", "-o", "m"), "train,export"),
        (("export", "policy.zip"), "export"),
        (("evaluate", "m"), "train"),
        (("serve", "m"), "serve"),
        (("demo", "-o", "m"), "train,export,serve"),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else each,
)
def test_a_missing_extra_is_named_with_its_pip_line(
    arguments: tuple[str, ...], extra: str, tmp_path: Path
) -> None:
    """As after ``pip install trpo-deploy``, with no extra."""
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
    run = run_process(*arguments, cwd=tmp_path, env={"PYTHONPATH": path})
    run.assert_one_clear_line(f'pip install "trpo-deploy[{extra}]"')


def test_verify_with_swapped_arguments_says_the_order(model: ModelDir, tmp_path: Path) -> None:
    without_suffix = tmp_path / "ppo_lr0.0003"
    without_suffix.write_bytes(model.policy_zip.read_bytes())
    for source in (model.policy_zip, without_suffix, model.root):
        run = run_cli("verify", model.onnx, source)
        run.assert_one_clear_line(f"trpo-deploy verify {source} {model.onnx}")


@pytest.mark.parametrize(
    ("command", "suffix"), [("export", ".zip"), ("verify", ".zip"), ("inspect", ".onnx")]
)
def test_a_forgotten_suffix_is_suggested(command: str, suffix: str, tmp_path: Path) -> None:
    """SB3 saves ``model.save("x")`` as ``x.zip``."""
    source = tmp_path / "ppo_lr0.0003"
    others = (tmp_path / "x.onnx",) if command == "verify" else ()
    run_cli(command, source, *others).assert_one_clear_line(f"{source} does not exist; give")
    (tmp_path / f"ppo_lr0.0003{suffix}").write_bytes(b"")
    run = run_cli(command, source, *others)
    run.assert_one_clear_line(f"{source} does not exist; did you mean {source}{suffix}?")


@pytest.mark.parametrize("name", ["o/x.onnx", "o/p/x.onnx"])
def test_a_file_in_the_way_of_a_folder_is_named(name: str, model: ModelDir, tmp_path: Path) -> None:
    (tmp_path / "o").write_text("")
    run = run_cli("export", model.root, "-o", name, "--no-verify", cwd=tmp_path)
    run.assert_one_clear_line(f"cannot write {name}: o is a file, not a folder")
    train = run_cli("train", "CartPole-v1", "-o", name, "-n", 64, cwd=tmp_path)
    train.assert_one_clear_line(f"cannot make the folder {name}: o is a file, not a folder")


DICT = """
import gymnasium
from gymnasium import spaces


class Keys(gymnasium.Env):
    observation_space = spaces.Dict(
        {"action": spaces.Box(-1, 1, (2,)), "x": spaces.Discrete(3)}
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.sample(), 1.0, False, self.steps == 9, {}


gymnasium.register("Keyed-v0", Keys)
"""


def test_a_dict_environment_names_the_policy_for_it(tmp_path: Path) -> None:
    (tmp_path / "keys.py").write_text(DICT)
    for policy in ((), ("--set", "policy=CnnPolicy")):
        run = run_cli("train", "keys:Keyed-v0", "-o", "m", "-n", 64, *policy, cwd=tmp_path)
        run.assert_one_clear_line("--set policy=MultiInputPolicy")
    assert not (tmp_path / "m").exists()


def test_a_renamed_key_is_said_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "keys.py").write_text(DICT)
    run = run_cli(
        *("train", "keys:Keyed-v0", "-o", "m", "-n", 128, "--n-envs", 1, "--set", "n_steps=64"),
        *("--set", "policy=MultiInputPolicy", "--set", "normalize=false", "--no-progress"),
        *("--set", "batch_size=64", "--eval-episodes", 1, "--eval-every", 128),
        cwd=tmp_path,
    )
    assert run.code == 0, run.error
    first, second, *_ = run.output.splitlines()
    assert first.startswith("note: the observation key 'action' will be the input 'obs_action'")
    assert second.startswith("evaluation at")
