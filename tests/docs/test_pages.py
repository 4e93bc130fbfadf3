"""Every command and every snippet of the pages runs, from the page's own text.

CONTRIBUTING.md says how a block is written, and ``terminal`` what this test changes in it.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.docs.blocks import blocks_of
from tests.docs.terminal import ROOT, Terminal
from tests.test_repository import tracked_files

PATTERNS = ("*.md", "benchmarks/*.md", "examples/*/README.md", "models/*.md", "docs/**/*.md")
PAGES = [page for pattern in PATTERNS for page in sorted(ROOT.glob(pattern))]
# Commands of earlier versions, and a page with a test of its own, which brings a robot.
NOT_HERE = ("CHANGELOG.md", "decisions", "robots.md")
PAGES = [page for page in PAGES if not {*NOT_HERE} & {page.name, page.parent.name}]
PAGES = [page for page in PAGES if page in tracked_files()]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_blocks_of_a_page_run_in_its_order(page: Path, trained: Path, tmp_path: Path) -> None:
    with closing(Terminal(tmp_path, trained, {})) as terminal:
        terminal.run_all(blocks_of(page))
