"""Every command and every snippet of the pages runs, from the page's own text.

CONTRIBUTING.md says how a block is written, and ``terminal`` what a test changes in it.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks_of
from tests.docs.terminal import ROOT, Terminal

PATTERNS = ("*.md", "benchmarks/*.md", "examples/*/README.md", "models/*.md", "docs/**/*.md")
PAGES = [page for pattern in PATTERNS for page in sorted(ROOT.glob(pattern))]
HISTORY = ("CHANGELOG.md", "decisions")  # commands of earlier versions
PAGES = [page for page in PAGES if not {*HISTORY} & {page.name, page.parent.name}]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_blocks_of_a_page_run_in_its_order(page: Path, trained: Path, tmp_path: Path) -> None:
    with closing(Terminal(tmp_path, trained, {})) as terminal:
        for block in list(blocks_of(page)):
            if block.is_run:
                run(block, terminal)


def run(block: Block, terminal: Terminal) -> None:
    """Run a block; a failure names its place."""
    try:
        terminal.run(block)
    except Exception as error:
        place = f"{block.page.relative_to(ROOT)}:{block.line}"
        raise AssertionError(f"{place}: {block.kind}: {error}") from error
