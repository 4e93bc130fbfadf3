"""Links and pictures of every page lead to files and headings that are here.

Addresses of the project's repository and of its site are those of files in this checkout.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it.token import Token

from tests.docs.addresses import PROJECT, SITE
from tests.docs.blocks import parse
from tests.test_repository import ROOT, tracked_files

RAW = PROJECT.replace("github.com", "raw.githubusercontent.com")
REPOSITORY = re.compile(
    rf"{re.escape(PROJECT)}/(?:blob|raw|tree)/main/"
    rf"|{re.escape(RAW)}/main/"
)
IN_HTML = re.compile(r"""\b(?:href|src|srcset)=["']([^"']+)["']""")
FIXTURES = ROOT / "tests" / "fixtures"  # a run's card there links to files that were left out
PAGES = [
    path for path in tracked_files() if path.suffix == ".md" and not path.is_relative_to(FIXTURES)
]


def links_of(text: str) -> Iterator[str]:
    """What a page links to and shows, in Markdown and in HTML."""
    for token in _with_children(parse(text)):
        if token.type in ("html_block", "html_inline"):
            yield from IN_HTML.findall(token.content)
        for attribute in ("href", "src"):
            if attribute in token.attrs:
                yield unquote(str(token.attrs[attribute]))


def anchors_of(text: str) -> set[str]:
    """The fragments of a page's headings on GitHub."""
    tokens = parse(text)
    found: Counter[str] = Counter()
    anchors = set()
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            shown = "".join(each.content for each in token.children or ())
            anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
            anchors.add(f"{anchor}-{found[anchor]}" if found[anchor] else anchor)
            found[anchor] += 1
    return anchors


def _with_children(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _with_children(token.children or [])


def problem(link: str, page: Path) -> str | None:
    """Why a link of a page leads nowhere; ``None`` for one that does not, or to other sites."""
    address, _, fragment = link.partition("#")
    target = _target(address, page)
    if target is None:
        return None
    if not target.exists():
        return f"{link}: no such file"
    if fragment and target.suffix == ".md" and fragment not in anchors_of(target.read_text()):
        return f"{link}: no such heading"
    return None


def _target(address: str, page: Path) -> Path | None:
    """The file in this checkout, or ``None`` if the address is that of another site."""
    if not address:
        return page
    repository = REPOSITORY.match(address)
    if repository is not None:
        return ROOT / address[repository.end() :]
    if address.startswith(SITE):
        return _source(ROOT / "docs" / (address.removeprefix(SITE) or "index.html"))
    if re.match(r"\w+:|\.\./\.\./actions/", address):  # the latter: workflows on the code's host
        return None
    return page.parent / address


def _source(page: Path) -> Path:
    """What a page of the site is made from."""
    sources = (page.with_suffix(suffix) for suffix in (".md", ".rst"))
    return next((source for source in sources if source.exists()), page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    problems = [problem(link, page) for link in links_of(page.read_text(encoding="utf-8"))]
    assert [each for each in problems if each is not None] == []


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ('[a](b.md "title") ![c](d.svg)', ["b.md", "d.svg"]),
        ("[a][b]\n\n[b]: c%20d.md", ["c d.md"]),
        ('<a href="a.md"><img src="b.svg"></a>', ["a.md", "b.svg"]),
        ("`[a](b)`\n\n```text\n[c](d)\n```", []),
    ],
)
def test_links_are_found_in_all_forms(text: str, links: list[str]) -> None:
    assert list(links_of(text)) == links


@pytest.mark.parametrize(
    ("link", "says"),
    [
        ("none.md", "no such file"),
        ("docs/export.md#none", "no such heading"),
        ("#none", "no such heading"),
        (f"{PROJECT}/blob/main/none.md", "no such file"),
        (f"{RAW}/main/a.svg", "no such file"),
        (f"{SITE}none.html", "no such file"),
        (f"{PROJECT}/blob/main/docs/export.md#the-certificate", None),
        (f"{SITE}export.html#the-certificate", None),
        ("docs/export.md#the-certificate", None),
        ("docs/targets.md#c", None),
        ("https://example.org/none.md", None),
    ],
)
def test_a_link_that_leads_nowhere_is_named(link: str, says: str | None) -> None:
    found = problem(link, ROOT / "README.md")
    assert found == (says and f"{link}: {says}")


def test_headings_have_githubs_anchors() -> None:
    assert anchors_of("# A `b_c`, d!\n\n## E\n\n## E\n") == {"a-b_c-d", "e", "e-1"}
