"""Fenced blocks of a Markdown page, in the form in which they can be run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

RUN = ("console", "python", "sh")
SHOWN = ("c", "html", "js", "json", "mermaid", "text", "toml", "yaml")
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        kind: The info string.
        text: What is between the fences.
        page: The page that has it.
        line: Line of the opening fence in the page, counted from 1.
        is_run: Whether it is of a kind that is run, without a comment that says why not.
    """

    kind: str
    text: str
    page: Path
    line: int
    is_run: bool


def parse(text: str) -> list[Token]:
    """Tokens of a page in GitHub's Markdown."""
    return MarkdownIt("gfm-like", {"linkify": False}).parse(text)


def blocks_of(page: Path) -> Iterator[Block]:
    """All fenced blocks of a page, in its order.

    Raises:
        ValueError: A block is of no known kind, or a comment ``not run`` has no reason or no block
            below it.
    """
    edge = Token("", "", 0)
    for before, token in pairwise([edge, *parse(page.read_text(encoding="utf-8")), edge]):
        is_reason = before.type == "html_block" and "not run" in before.content
        if is_reason:
            _check_reason(before, token, page)
        if token.type == "fence":
            _check_kind(token, page)
            is_run = token.info in RUN and not is_reason
            yield Block(token.info, token.content, page, _line(token), is_run)
        elif token.type == "code_block":
            raise ValueError(f"{page}:{_line(token)}: an indented block; use a fence with a kind")


def _check_reason(comment: Token, below: Token, page: Path) -> None:
    text, place = comment.content.strip(), f"{page}:{_line(comment)}"
    if not NOT_RUN.fullmatch(text):
        raise ValueError(f"{place}: expected <!-- not run: the reason -->, received {text}")
    if below.type != "fence" or below.info not in RUN:
        raise ValueError(f"{place}: 'not run' has no block of kind {', '.join(RUN)} below it")


def _check_kind(fence: Token, page: Path) -> None:
    known = sorted((*RUN, *SHOWN))
    if fence.info not in known:
        raise ValueError(
            f"{page}:{_line(fence)}: expected a kind of block ({', '.join(known)}), "
            f"received {fence.info!r}"
        )


def _line(token: Token) -> int:
    assert token.map is not None
    return token.map[0] + 1
