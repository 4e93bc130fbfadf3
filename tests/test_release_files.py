"""Files of a release: the long description on a package index, the citation, the workflows."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import cast

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

import trpo_deploy

ROOT = Path(__file__).parents[1]


def targets(markdown: str) -> list[str]:
    """Where links and pictures lead to, as a Markdown parser sees them."""
    found = []
    for token in MarkdownIt("commonmark", {"html": True}).parse(markdown):
        for each in (token, *(token.children or ())):
            found += _targets(each)
    return found


def _targets(token: Token) -> list[str]:
    if token.type in ("html_block", "html_inline"):
        return re.findall(r"(?:href|src|srcset)=[\"']?([^\"'\s>]+)", token.content)
    return [str(token.attrs[name]) for name in ("href", "src") if name in token.attrs]


@pytest.fixture(scope="module")
def description() -> str:
    return cast(str, runpy.run_path(str(ROOT / "setup.py"))["long_description"]())


def test_no_link_and_no_picture_is_relative(description: str) -> None:
    relative = [each for each in targets(description) if not re.match(r"https?://|#", each)]
    assert relative == []


def test_links_lead_to_files_of_this_version(description: str) -> None:
    in_repository = re.compile(
        rf"https://[^/]+/[^/]+/[^/]+/(?:blob|raw)/v{re.escape(trpo_deploy.__version__)}/([^#]+)"
    )
    files = {match[1] for each in targets(description) if (match := in_repository.match(each))}
    assert "docs/training.md" in files
    assert [name for name in files if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[a](docs/a.md#b)", "[a](URL/blob/TAG/docs/a.md#b)"),
        ("![a](docs/images/a.svg)", "![a](URL/raw/TAG/docs/images/a.svg)"),
        ('[![a](a.png "title")](b.md)', '[![a](URL/raw/TAG/a.png "title")](URL/blob/TAG/b.md)'),
        ('<img src="docs/a.webp" width="10">', '<img src="URL/raw/TAG/docs/a.webp" width="10">'),
        ("[models](models/)", "[models](URL/blob/TAG/models)"),
        ("![CI](../../actions/badge.svg)", "![CI](URL/actions/badge.svg)"),
        ("[a](https://a.org/b.md)", "[a](https://a.org/b.md)"),
        ("[a](#use-it)", "[a](#use-it)"),
        ("[a](mailto:a@b.org)", "[a](mailto:a@b.org)"),
    ],
)
def test_relative_targets_become_absolute_and_others_stay(line: str, expected: str) -> None:
    absolute = runpy.run_path(str(ROOT / "setup.py"))["absolute_links"]
    assert absolute(line, "URL", "TAG") == expected


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == trpo_deploy.__version__


@pytest.mark.parametrize(
    "workflow", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.stem
)
def test_workflows_pin_actions_and_may_only_read(workflow: Path) -> None:
    """A tag can be moved to other code. Jobs that need more than to read say so themselves."""
    actions = re.findall(r"\buses: (\S+)", workflow.read_text())
    assert actions
    for action in actions:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}
