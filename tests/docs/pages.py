"""The pages for users: README and others at the root, docs, examples, and the lists of folders."""

from __future__ import annotations

from tests.test_repository import ROOT, tracked_files

PATTERNS = ("*.md", "benchmarks/*.md", "examples/*/README.md", "models/*.md", "docs/**/*.md")
HISTORY = (ROOT / "CHANGELOG.md", ROOT / "docs" / "decisions")  # commands of earlier versions
PAGES = [
    page
    for pattern in PATTERNS
    for page in sorted(ROOT.glob(pattern))
    if page in tracked_files() and not {page, page.parent} & {*HISTORY}
]
