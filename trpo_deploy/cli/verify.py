"""``trpo-deploy verify``: check an exported file against its policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from zipfile import is_zipfile

import typer

from trpo_deploy.cli.certificate import print_certificate
from trpo_deploy.cli.option_groups import option_groups
from trpo_deploy.cli.options import ReadingOptions, Source, Verbose
from trpo_deploy.cli.output import print_warnings, reserve_stdout
from trpo_deploy.errors import PolicyFileError
from trpo_deploy.files.names import ONNX


@option_groups
def verify(
    source: Source,
    policy: Annotated[Path, typer.Argument(help="ONNX file.", show_default=False)],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the certificate to this file.")
    ] = None,
    reading: ReadingOptions,
    verbose: Verbose = False,
) -> None:
    """Check that an ONNX file behaves exactly like the trained policy; exit with 1 if not."""
    reserve_stdout()
    _check_order(source, policy)
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
    print_certificate(certificate.to_dict(), verbose=verbose)
    if not certificate.passed:
        raise typer.Exit(1)


def _check_order(source: Path, policy: Path) -> None:
    """Raise if the second argument is the source and not the exported file."""
    is_swapped = source.suffix == ONNX and policy.is_dir()
    if is_swapped or is_zipfile(policy):
        raise PolicyFileError(
            f"{policy} is a trained policy, not an ONNX file; the source comes first: "
            f"trpo-deploy verify {policy} {source if source.suffix == ONNX else 'POLICY.onnx'}"
        )
