"""Every command and every snippet of the pages runs, from the page's own text.

CONTRIBUTING.md says how a block is written, and ``terminal`` what this test changes in it.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.command import run_cli, run_process
from tests.docs.blocks import blocks_of
from tests.docs.pages import PAGES
from tests.docs.terminal import ROOT, Terminal

ROBOTS = ROOT / "docs" / "robots.md"  # has a test of its own, which brings a robot


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page != ROBOTS],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_the_blocks_of_a_page_run_in_its_order(
    page: Path, tmp_path: Path, commands: Path, request: pytest.FixtureRequest
) -> None:
    text = page.read_text()
    if "rl-trained-agents/" in text:
        request.getfixturevalue("agents")
    trains = "trpo-deploy train CartPole-v1" in text
    trained = request.getfixturevalue("trained") if trains else tmp_path / "trained"
    with closing(Terminal(tmp_path, trained, {}, commands)) as terminal:
        terminal.run_all(blocks_of(page))


@pytest.mark.parametrize("words", ["--version", "inspect nowhere", "train"])
def test_a_forked_command_ends_as_one_that_is_started(
    words: str, tmp_path: Path, commands: Path
) -> None:
    forked = run_process(*words.split(), command=(commands / "trpo-deploy",), cwd=tmp_path)
    assert forked == run_cli(*words.split(), cwd=tmp_path)
