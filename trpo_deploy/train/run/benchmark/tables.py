"""Tables as Markdown, CSV and LaTeX. The first line of a table is its header."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from trpo_deploy.files.atomic import atomic_write

Table = Sequence[Sequence[str]]


def write_tables(stem: Path, lines: Table) -> None:
    """Write a table as ``STEM.md``, ``STEM.csv`` and ``STEM.tex``."""
    for suffix, text in ((".md", markdown), (".csv", _csv), (".tex", _latex)):
        atomic_write(stem.with_name(stem.name + suffix), text(lines))


def markdown(lines: Table) -> str:
    """The table in Markdown."""
    ruled = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in ruled)


def _csv(lines: Table) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(lines)
    return text.getvalue()


def _latex(table: Table) -> str:
    """The table for LaTeX's booktabs package."""
    lines = [" & ".join(map(_escape, line)) for line in table]
    body = " \\\\\n".join(lines[1:])
    columns = "l" + "r" * (len(table[0]) - 1)
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{lines[0]} \\\\\n\\midrule\n{body} \\\\\n"
        "\\bottomrule\n\\end{tabular}\n"
    )


def _escape(text: str) -> str:
    return "".join(f"\\{each}" if each in "%_{}&#$" else each for each in text)
