"""``trpo-deploy bundle``: pack policies for a container."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from trpo_deploy.cli.options import Models
from trpo_deploy.cli.output import escape, say, shell_word
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
    image = re.sub("[^a-z0-9]+", "-", path.name.lower()).strip("-") or "policies"
    dockerfile = path / "env" / "docker" / "Dockerfile"
    say(f"wrote {escape(path)}")
    say(f"  here:   trpo-deploy serve {shell_word(path / 'src' / 'models')}")
    say(f"  image:  docker build -t {image} -f {shell_word(dockerfile)} {shell_word(path)}")
    say(f"          docker run -p 3000:3000 {image}")
