"""``trpo-deploy bundle``: pack policies for a container."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trpo_deploy.cli.options import Models
from trpo_deploy.cli.output import escape, say
from trpo_deploy.extras import require


def bundle(
    models: Models,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to create; it must not exist.")
    ] = Path("bento"),
) -> None:
    """Pack policies into a Bento, ready to containerize."""
    require("serve")
    from trpo_deploy.serve import bundle as pack

    path = pack(models, output)
    say(f"wrote {escape(path)}; serve it with: bentoml serve {escape(path)}")
