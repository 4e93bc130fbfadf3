"""``trpo-deploy verify``: check an exported file against its policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trpo_deploy.cli.option_groups import option_groups
from trpo_deploy.cli.options import ReadingOptions, Source
from trpo_deploy.cli.output import print_certificate, print_warnings


@option_groups
def verify(
    source: Source,
    policy: Annotated[Path, typer.Argument(help="ONNX file.", show_default=False)],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the certificate to this file.")
    ] = None,
    reading: ReadingOptions,
) -> None:
    """Check that an ONNX file behaves exactly like the trained policy; exit with 1 if not."""
    found, source_options = reading.locate(source)
    from trpo_deploy.export import verify_policy
    from trpo_deploy.files.atomic import atomic_write

    certificate = verify_policy(
        found,
        policy,
        steps=reading.steps,
        seconds=reading.seconds,
        reading=source_options,
    )
    if output is not None:
        atomic_write(output, certificate.to_json())
    print_warnings(certificate.warnings)
    print_certificate(certificate)
    if not certificate.passed:
        raise typer.Exit(1)
