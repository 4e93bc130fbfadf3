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


@pytest.mark.parametrize(
    ("env_id", "says"),
    [
        ("cartpole-v1", "did you mean CartPole-v1?"),
        ("CartPole-v7", "did you mean CartPole-v1?"),
        ("CartPole v1", "did you mean CartPole-v1?"),
        ("ALE/Nowhere-v5", "name the module that registers it, as in module:Id"),
        ("models", "give an environment id such as CartPole-v1, not a file or folder"),
        ("HalfCheetah-v3", "no longer has HalfCheetah-v3; its newest version is HalfCheetah-v5"),
        ("LunarLander-v2", "no longer has LunarLander-v2; its newest version is LunarLander-v3"),
    ],
)
def test_an_environment_that_is_not_here_says_what_to_do(
    env_id: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    run = run_cli("train", env_id, "-o", "m", cwd=tmp_path)
    run.assert_one_clear_line(env_id, says)
    assert not (tmp_path / "m").exists()


def _without(folder: Path, *packages: str) -> dict[str, str]:
    """Variables for a process in which packages are not installed."""
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "from importlib import metadata\n"
        f"gone = {packages!r}\n"
        "real = metadata.Distribution.from_name\n"
        "def from_name(name):\n"
        "    if name.replace('-', '_') in gone: raise metadata.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "metadata.Distribution.from_name = from_name\n"
        "for name in gone: sys.modules[name] = None\n"
    )
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


MODELS = Path(__file__).parents[2] / "models"


def test_without_mujoco_the_asked_environment_and_our_extra_are_named(tmp_path: Path) -> None:
    env = _without(tmp_path, "mujoco")
    says = 'MuJoCo is not installed, so {} cannot be made; run: pip install "trpo-deploy[mujoco]"'
    model = MODELS / "HalfCheetah-v5"
    evaluate = ("evaluate", model, "--env", "HalfCheetah-v4")
    run_process(*evaluate, env=env).assert_one_clear_line(says.format("HalfCheetah-v4"))
    train = run_process("train", "Hopper-v5", "-o", tmp_path / "m", env=env)
    train.assert_one_clear_line(says.format("Hopper-v5"))
    old = run_process("evaluate", model, "--env", "HalfCheetah-v3", env=env)
    old.assert_one_clear_line("no longer has HalfCheetah-v3", says.format("HalfCheetah-v5"))
    for name in ("policy.zip", "vecnormalize.pkl", "config.yaml"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    export = run_process("export", tmp_path, env=env)
    assert export.code == 0, export.error
    limit = "on made-up observations only; not played: MuJoCo is not installed"
    assert limit in export.output


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
    for force in ((), ("--force",)):
        run = run_cli("train", "CartPole-v1", "-o", tmp_path, *force)
        run.assert_one_clear_line("holds no run", "another folder with -o")
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
        (("demo", "-o", "m"), "train,export,serve,video"),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else each,
)
def test_a_missing_extra_is_named_with_its_pip_line(
    arguments: tuple[str, ...], extra: str, tmp_path: Path
) -> None:
    """As after ``pip install trpo-deploy``, with no extra."""
    env = _without(tmp_path, "torch", "stable_baselines3", "onnx", "bentoml", "gymnasium")
    run = run_process(*arguments, cwd=tmp_path, env=env)
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


def test_a_policy_as_statistics_is_named(model: ModelDir, tmp_path: Path) -> None:
    export = ("export", model.policy_zip, "-o", tmp_path / "x.onnx", "--vecnormalize")
    run = run_cli(*export, model.policy_zip)
    run.assert_one_clear_line(f"{model.policy_zip} is a zip", "vecnormalize.pkl")
    run = run_cli(*export, model.onnx)
    run.assert_one_clear_line("not a file of VecNormalize.save()", "vecnormalize.pkl")
    assert len(run.error) < 400  # not the content
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_models_names_some_of_them(tmp_path: Path) -> None:
    for name in "abcd":
        for file in ("policy.onnx", "policy.zip"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / file).write_bytes(b"")
    some = ", ".join(str(tmp_path / name) for name in "abc") + " (and 1 more)"
    for command in ("evaluate", "inspect", "export", "names"):
        run = run_cli(command, tmp_path)
        run.assert_one_clear_line(f"give one of the folders in it: {some}")


def test_a_folder_without_anything_to_export_is_not_to_be_exported(tmp_path: Path) -> None:
    for command in ("evaluate", "inspect", "serve"):
        run = run_cli(command, tmp_path)
        run.assert_one_clear_line("has no policy.onnx; give a model folder or a policy.onnx")


def test_a_run_that_has_not_ended_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("env_id: CartPole-v1\n")
    for command in ("export", "evaluate", "inspect", "verify"):
        policy = ("x.onnx",) if command == "verify" else ()
        (tmp_path / "x.onnx").write_bytes(b"")
        run = run_cli(command, tmp_path, *policy, cwd=tmp_path)
        run.assert_one_clear_line("has no policy.zip yet: a run writes it when it ends")
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "policy.zip").write_bytes(b"")
    run = run_cli("export", tmp_path)
    run.assert_one_clear_line(f"the best so far is {tmp_path / 'best'}")


def test_verify_takes_the_folder_of_the_exported_file(model: ModelDir, tmp_path: Path) -> None:
    few = ("--steps", 20, "--seconds", 0)
    run = run_cli("verify", model.root, model.root, *few)
    assert run.code == 0, run.error
    missing = run_cli("verify", model.root, tmp_path / "nothing.onnx")
    missing.assert_one_clear_line("nothing.onnx does not exist")


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
    first, settings, second, *_ = run.output.splitlines()
    assert first.startswith("note: the observation key 'action' will be the input 'obs_action'")
    assert settings.startswith("settings: no preset")
    assert second.startswith("evaluation at")
