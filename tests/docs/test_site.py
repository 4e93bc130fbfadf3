"""The documentation site builds without a warning, is complete, and needs no other host."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from trpo_deploy.cli.app import app
from trpo_deploy.serve.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[2]
PACKAGES = ("runtime", "export", "train", "play", "serve", "spec")
LOADED = re.compile(r"<(?:script|img|iframe|link rel=\"(?:stylesheet|preload)\")[^>]*\"https?:")


def build(docs: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build a site; a warning is an error."""
    pytest.importorskip("sphinx")
    strict = ("--fail-on-warning", "--keep-going", "--quiet", "--doctree-dir", str(site.parent))
    command = [sys.executable, "-m", "sphinx", *strict, str(docs), str(site)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "site"
    done = build(ROOT / "docs", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_loads_nothing_from_other_hosts(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    assert [page.name for page in pages if LOADED.search(page.read_text())] == []
    styles = [path for path in site.rglob("*.css") if "url(http" in path.read_text()]
    assert styles == []


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_all_public_names(site: Path, package: str) -> None:
    page = (site / "reference" / "python" / f"{package}.html").read_text()
    for name in import_module(f"trpo_deploy.{package}").__all__:
        assert f'id="trpo_deploy.{package}.{name}"' in page


@pytest.mark.slow
def test_the_reference_has_all_commands_and_settings(site: Path) -> None:
    page = (site / "reference" / "command-line.html").read_text()
    commands = [each.callback.__name__ for each in app.registered_commands if each.callback]
    assert [name for name in commands if f'id="trpo-deploy-{name}"' not in page] == []
    page = (site / "reference" / "settings.html").read_text()
    variables = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    missing = {variable for variable in variables if f">{variable}<" not in page}
    assert missing == {f"{ENV_PREFIX}MODEL_STORE"}  # the supervisor sets it


def test_each_broken_link_fails_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    shutil.copy(ROOT / "docs" / "conf.py", docs)
    shutil.copytree(ROOT / "docs" / "_extensions", docs / "_extensions")
    for name in ("pyproject.toml", "trpo_deploy"):
        (tmp_path / name).symlink_to(ROOT / name)
    links = ("tutorials/nothing.md", "index.md#nowhere", "../nothing.py")
    paragraphs = "".join(f"[a link]({link})\n\n" for link in links)
    (docs / "index.md").write_text(f"# Home\n\n{paragraphs}")
    done = build(docs, tmp_path / "site")
    assert done.returncode != 0
    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert len(warnings) == len(links)
    for text in ("tutorials/nothing.md", "nowhere", "no such file: ../nothing.py"):
        assert sum(text in line for line in warnings) == 1, warnings
