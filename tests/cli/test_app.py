"""Help, its examples, completion, usage errors, and the options of all commands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

import trpo_deploy
from tests.command import run_cli, run_process
from trpo_deploy.cli.app import app
from trpo_deploy.files.model_dir import ModelDir

COMMANDS: dict[str, Any] = dict(typer.main.get_group(app).commands)


def test_help_lists_every_command_with_its_summary() -> None:
    run = run_cli("--help")
    assert run.code == 0
    _, section = run.output.split("Commands", maxsplit=1)
    listed = re.findall(r"^│ ([a-z]+) +\S", section, re.MULTILINE)
    assert listed == list(COMMANDS)
    assert listed[0] == "demo"


@pytest.mark.parametrize("arguments", [("-h",), ("export", "-h")])
def test_h_is_help(arguments: tuple[str, ...]) -> None:
    run = run_cli(*arguments)
    assert run.code == 0, run.error
    assert run.output == run_cli(*arguments[:-1], "--help").output


def test_version() -> None:
    run = run_cli("--version")
    assert (run.code, run.output) == (0, f"trpo-deploy {trpo_deploy.__version__}\n")


def test_help_imports_nothing_heavy() -> None:
    """``--help`` has to answer at once: these take a second and more to import."""
    heavy = ("torch", "numpy", "gymnasium", "stable_baselines3", "onnx", "onnxruntime", "bentoml")
    program = (
        "import sys\nfrom trpo_deploy.cli.app import app\n"
        "app(['export', '--help'], standalone_mode=False)\n"
        f"print('imported:', *[name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "imported:"


def test_the_end_of_a_command_is_quick() -> None:
    """Frozen objects are not searched for garbage: with torch, that is a second less."""
    program = (
        "import atexit, gc, sys\n"
        "from trpo_deploy.cli.app import main\n"
        "atexit.register(lambda: print('frozen:', gc.get_freeze_count() > 10_000))\n"
        "sys.argv = ['trpo-deploy', '--version']\n"
        "main()"
    )
    done = run_process(command=(sys.executable, "-c", program))
    assert done.output.splitlines()[-1] == "frozen: True"


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_in_parentheses_are_descriptions(name: str) -> None:
    """typer prints the value of a default as it is, and ``show_default`` in parentheses."""
    shown = [getattr(option, "show_default", None) for option in COMMANDS[name].params]
    words = [each for each in shown if isinstance(each, str) and re.fullmatch(r"[\w.]+", each)]
    assert set(words) <= {"stdout"}


def _example(name: str) -> list[str]:
    """The words of the example in a command's help, without ``trpo-deploy NAME``."""
    program, command, *words = shlex.split(COMMANDS[name].epilog.removeprefix("Example: "))
    assert (program, command) == ("trpo-deploy", name)
    return words


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_each_command_is_in_its_help_and_parses(name: str) -> None:
    assert shlex.join(_example(name)) in run_cli(name, "--help").output
    COMMANDS[name].make_context(name, _example(name))


@pytest.fixture
def after_training(model: ModelDir, tmp_path: Path) -> Path:
    """A folder with what the example of ``train`` writes, and a key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "CartPole-v1").symlink_to(model.root)
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "private.pem").write_bytes(key)
    return tmp_path


def test_the_examples_run_after_the_one_of_train(after_training: Path) -> None:
    """Without ``demo``, ``train``, ``benchmark`` and ``serve``, which other tests run."""
    for name in ("evaluate", "names", "verify", "inspect", "export", "doctor", "bundle", "sign"):
        run = run_cli(name, *_example(name), cwd=after_training)
        assert run.code == 0, (name, run.error)
    for made in ("names.yaml", "bento", "runs/CartPole-v1/policy.sig"):
        assert (after_training / made).exists()
    (after_training / "runs/CartPole-v1/policy.sig").unlink()


def test_the_shell_completes_commands_and_options() -> None:
    for words, completed in (
        ("trpo-deploy exp", "export"),
        ("trpo-deploy train --time", "--timesteps"),
    ):
        variables = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        run = run_process(env={**variables, "_TRPO_DEPLOY_COMPLETE": "complete_bash"})
        assert (run.code, run.output.split(), run.error) == (0, [completed], "")
    # As --show-completion bash, which looks for the shell that started it.
    script = run_process(env={"_TRPO_DEPLOY_COMPLETE": "source_bash"})
    assert "complete -o default -F _trpo_deploy_completion trpo-deploy" in script.output


def test_the_defaults_in_the_help_of_train_are_those_of_a_run() -> None:
    from trpo_deploy.train import TrainConfig

    shown = {option.name: option.show_default for option in COMMANDS["train"].params}
    names = {"timesteps": "n_timesteps"}
    defaults = {each.name: each.default for each in fields(TrainConfig)}
    for name in (
        *("timesteps", "seed", "n_envs", "vec_env", "device"),
        *("eval_every", "eval_episodes", "checkpoint_every"),
    ):
        default = defaults[names.get(name, name)]
        assert shown[name].removeprefix("the preset's, else ") == str(default)


@pytest.mark.parametrize(
    ("text", "steps"), [("1e5", 100_000), ("2048", 2048), ("100_000", 100_000), ("1.5e3", 1500)]
)
def test_a_number_of_steps_may_be_written_with_an_exponent(text: str, steps: int) -> None:
    for command, option, name in (
        (["train", "X"], "-n", "timesteps"),
        (["train", "X"], "--eval-every", "eval_every"),
        (["train", "X"], "--checkpoint-every", "checkpoint_every"),
        (["benchmark"], "-n", "timesteps"),
        (["verify", "a", "b"], "--steps", "steps"),
        (["export", "a"], "--steps", "steps"),
    ):
        context = COMMANDS[command[0]].make_context(command[0], [*command[1:], option, text])
        assert (context.params[name], type(context.params[name])) == (steps, int)


@pytest.mark.parametrize("text", ["1e-5", "1.5", "-1", "0", "many", "nan", "inf", "1e5x", ""])
def test_another_number_of_steps_is_wrong_usage(text: str) -> None:
    run = run_cli("train", "CartPole-v1", "-n", text)
    assert run.code == 2
    assert "a whole number above zero, as 100000 or 1e5" in re.sub(r"[│\s]+", " ", run.error)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_help_line(name: str) -> None:
    run = run_cli(name, "--help")
    assert run.code == 0, run.error
    for option in COMMANDS[name].params:
        assert option.help, option.name


@pytest.mark.parametrize("name", COMMANDS)
def test_output_is_a_path_in_every_command_that_has_it(name: str) -> None:
    for option in COMMANDS[name].params:
        if {"-o", "--output"} & set(option.opts):
            assert option.opts == ["--output", "-o"]
            parameter = signature(COMMANDS[name].callback, eval_str=True).parameters[option.name]
            assert get_args(parameter.annotation)[0] in (Path, Path | None)


@pytest.mark.parametrize(
    "arguments",
    [
        ("train",),
        ("export", "x.zip", "--nonsense"),
        ("export", "x.zip", "--frame-stack", 0),
        ("train", "CartPole-v1", "--resume", "--force"),
    ],
    ids=lambda each: " ".join(map(str, each)),
)
def test_wrong_usage_exits_with_two(arguments: tuple[object, ...]) -> None:
    run = run_cli(*arguments)
    assert run.code == 2
    assert "Usage: trpo-deploy" in run.error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [("--version",), ("doctor", "--json")])
def test_a_full_disk_behind_stdout_is_one_line(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "trpo_deploy", *arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    first, *rest = done.stderr.splitlines()
    assert first == "error: cannot write the output: the disk is full"
    assert "Traceback" not in "".join(rest)
