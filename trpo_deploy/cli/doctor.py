"""``trpo-deploy doctor``: which extras, engines and tools are on this machine."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from trpo_deploy.cli.options import Json
from trpo_deploy.cli.output import escape, print_json, say

if TYPE_CHECKING:
    from trpo_deploy.doctor import Item


def doctor(as_json: Json = False) -> None:
    """Show which extras, engines and tools are here, and how to install the others."""
    import trpo_deploy
    from trpo_deploy.doctor import find_extras, find_packages, find_programs

    about = {
        "version": trpo_deploy.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    found: Mapping[str, Iterable[Item]] = {
        "extras": find_extras(),
        "packages": find_packages(),
        "programs": find_programs(),
    }
    if as_json:
        sections = {title: [asdict(item) for item in items] for title, items in found.items()}
        print_json({**about, **sections})
        return
    say(escape("trpo-deploy {version}, Python {python}, {platform}".format(**about)))
    for title, items in found.items():
        say(f"[bold]{title}[/]")
        for item in items:
            say(_line(item))


def _line(item: Item) -> str:
    if item.found:
        return f"  [green]here[/]    {item.name:<24}{escape(item.version or item.use)}"
    words = "; ".join(filter(None, (item.use, item.problem, item.install)))
    return f"  [yellow]missing[/] {item.name:<24}{escape(words)}"
