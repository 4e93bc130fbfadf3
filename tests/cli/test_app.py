"""Help, usage errors, and the options of all commands."""

from __future__ import annotations

import re
from inspect import signature
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from tests.command import run_cli
from trpo_deploy.cli.app import app

COMMANDS: dict[str, Any] = dict(typer.main.get_group(app).commands)


def test_help_lists_every_command_with_its_summary() -> None:
    run = run_cli("--help")
    assert run.code == 0
    _, section = run.output.split("Commands", maxsplit=1)
    assert re.findall(r"^│ ([a-z]+) +\S", section, re.MULTILINE) == list(COMMANDS)


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
