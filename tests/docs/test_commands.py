"""Commands and options that a page names within a sentence exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.core
import typer.main

from tests.docs.blocks import parse
from tests.docs.pages import PAGES
from tests.docs.terminal import ROOT
from trpo_deploy.cli.app import app

APP = typer.main.get_command(app)
assert isinstance(APP, typer.core.TyperGroup)
OPTIONS = {
    name: {
        "--help",
        *(flag for each in command.params for flag in (*each.opts, *each.secondary_opts)),
    }
    for name, command in APP.commands.items()
}
FOREIGN = {
    *("--fault", "--slower", "--variants"),  # of scripts in examples and benchmarks
    *("--local-addr", "--max-restarts"),  # of torchrun
    *("--input-dim", "--large-temp-threshold", "--large-weight-threshold"),  # of emx-onnx-cgen
}


def unknown_in(code: str) -> list[str]:
    """The commands and long options in a piece of code that ``trpo-deploy`` does not have."""
    words = code.removeprefix("trpo-deploy ").split()
    options = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)} - FOREIGN
    if words[0] in OPTIONS:
        return sorted(options - OPTIONS[words[0]])
    if code.startswith("trpo-deploy "):
        return [] if words[0] == "COMMAND" else [words[0]]
    return sorted(options - set().union(*OPTIONS.values())) if words[0] in options else []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_options_in_sentences_exist(page: Path) -> None:
    inline = (child for token in parse(page.read_text()) for child in token.children or ())
    codes = [child.content for child in inline if child.type == "code_inline"]
    assert {code: unknown_in(code) for code in codes if unknown_in(code)} == {}


@pytest.mark.parametrize(
    ("code", "unknown"),
    [
        ("trpo-deploy no-command", ["no-command"]),
        ("trpo-deploy serve models --guard", ["--guard"]),
        ("export --guard --workers 4", ["--workers"]),
        ("--no-such-option", ["--no-such-option"]),
        ("trpo-deploy export SOURCE --target leapp", []),
        ("pip install --no-deps .", []),
        ("trpo-deploy COMMAND --help", []),
        ("-v5", []),
    ],
)
def test_what_does_not_exist_is_found(code: str, unknown: list[str]) -> None:
    assert unknown_in(code) == unknown
