"""Every command and every snippet of the pages runs, from the page's own text.

CONTRIBUTING.md says how a block is written, and ``terminal`` what a test changes in it.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks_of
from tests.docs.terminal import ROOT, Terminal

PATTERNS = ("README.md", "CONTRIBUTING.md", "models/README.md", "examples/*/README.md")
PAGES = [page for pattern in (*PATTERNS, "docs/**/*.md") for page in sorted(ROOT.glob(pattern))]
PAGES = [page for page in PAGES if page.parent.name != "decisions"]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_blocks_of_a_page_run_in_its_order(page: Path, tmp_path: Path) -> None:
    blocks = [block for block in blocks_of(page) if block.is_run]
    with closing(Terminal(tmp_path, {})) as terminal:
        for block in blocks:
            run(block, terminal)


def run(block: Block, terminal: Terminal) -> None:
    """Run a block; a failure names its place."""
    try:
        terminal.run(block)
    except Exception as error:
        place = f"{block.page.relative_to(ROOT)}:{block.line}"
        raise AssertionError(f"{place}: {block.kind}: {error}") from error
