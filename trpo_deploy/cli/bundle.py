"""``trpo-deploy bundle``: pack policies for a container or a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trpo_deploy.cli.options import Models
from trpo_deploy.cli.output import escape, say
from trpo_deploy.extras import require
from trpo_deploy.serve.bundles.table import DEFAULT, TARGETS, check_models_from

_FOLDERS = "; ".join(f"{name}: {target.summary}" for name, target in TARGETS.items())


def bundle(
    models: Models,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder to create; it must not exist.",
            show_default="the target's name",
        ),
    ] = None,
    target: Annotated[
        str, typer.Option(help=f"What to write ({_FOLDERS}).", metavar="NAME")
    ] = DEFAULT,
    models_from: Annotated[
        str | None,
        typer.Option(
            help="For kubernetes: image, volume or configmap, where the service finds the models.",
            metavar="PLACE",
            show_default="the image",
        ),
    ] = None,
) -> None:
    """Pack policies for a container, Kubernetes, KServe or Triton."""
    check_models_from(target, models_from)
    require("serve")
    from trpo_deploy.serve import pack

    packed = pack(models, Path(target) if output is None else output, target, models_from)
    say(f"wrote {escape(packed.folder)}")
    width = max(len(what) for what, _ in packed.next_steps) + 1
    for what, command in packed.next_steps:
        say(f"  {f'{what}:':<{width}} {escape(command)}")
