"""The repository: sizes, paths, and the folders that the architecture page lists."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "trpo_deploy"
MAX_BYTES = 2_000_000
FOREIGN = (
    r"(?<![\w.])/(?:home|mnt|root|tmp|work|Users)/[\w.]",  # a folder of one machine
    r"https?://[^\s)>\"'`]*(?:artifactory|nexus|pythonhosted|/simple\b|\.internal\b|\.corp\b)",
)


@functools.cache
def tracked_files() -> list[Path]:
    """Files under version control; in a copy without git, all but hidden and built ones."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        return [
            ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()
        ]
    return [path for path in ROOT.rglob("*") if path.is_file() and not _built(path)]


def _built(path: Path) -> bool:
    folders = path.relative_to(ROOT).parts[:-1]
    built = any(part.startswith(".") or part in ("build", "__pycache__") for part in folders)
    return built or path.suffix in (".so", ".pyd")


def package_folders() -> Iterator[tuple[Path, str]]:
    """Each folder of the package with the first line of its docstring."""
    for folder in sorted({path.parent for path in PACKAGE.rglob("*.py")}):
        docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
        yield folder, docstring.partition("\n")[0]


def test_no_tracked_file_is_large() -> None:
    large = {path: path.stat().st_size for path in tracked_files()}
    assert {path: size for path, size in large.items() if size > MAX_BYTES} == {}


@pytest.mark.parametrize("pattern", FOREIGN)
def test_no_text_names_a_folder_or_a_registry_of_one_machine(pattern: str) -> None:
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {hit[0]}" for hit in re.finditer(pattern, text)]
    assert found == []


def test_every_folder_of_the_package_says_what_it_is_for() -> None:
    for folder, summary in package_folders():
        assert summary.endswith("."), f"{folder}/__init__.py: {summary!r} is not a sentence"


def test_the_architecture_page_lists_each_folder_with_its_docstring() -> None:
    """Rows ``| `folder/` | first line of its __init__ |`` below "The tree", in any order."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    tree = page.partition("\n## The tree\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `[\w/]+/` \| .+ \|$", tree, re.MULTILINE)
    folders = {
        f"| `{folder.relative_to(PACKAGE).as_posix()}/` | {summary.replace('``', '`')} |"
        for folder, summary in package_folders()
        if folder != PACKAGE
    }
    assert sorted(listed) == sorted(folders), "expected:\n" + "\n".join(sorted(folders))


def test_no_test_imports_rl_zoo_into_its_own_process() -> None:
    """The import replaces Gymnasium's TimeLimit, for all later tests of the process."""
    for path in tracked_files():
        if path.suffix == ".py" and path.is_relative_to(ROOT / "tests"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                elif isinstance(node, ast.Import):
                    names = [each.name for each in node.names]
                else:
                    continue
                assert not any(name.partition(".")[0] == "rl_zoo3" for name in names), path
