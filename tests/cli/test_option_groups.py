"""Dataclasses of options in a command's signature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from trpo_deploy.cli.option_groups import option_groups


@dataclass(frozen=True)
class Pace:
    steps: Annotated[int, typer.Option("--steps", "-n", help="Number of steps.")] = 10
    slow: bool = False


def test_each_field_of_a_group_is_an_option() -> None:
    called = []
    app = typer.Typer()

    @app.command()
    @option_groups
    def run(name: str, *, loud: bool = False, pace: Pace) -> None:
        called.append((name, loud, pace))

    for arguments in (["a"], ["b", "-n", "3", "--slow", "--loud"]):
        assert CliRunner().invoke(app, arguments).exit_code == 0
    assert called == [("a", False, Pace()), ("b", True, Pace(3, True))]
    assert "Number of steps." in CliRunner().invoke(app, ["--help"]).output
