"""``trpo-deploy verify``: check an exported file, or a target's folder, against its policy."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zipfile import is_zipfile

import typer

from trpo_deploy.cli.certificate import print_certificate
from trpo_deploy.cli.option_groups import option_groups, refuse_options
from trpo_deploy.cli.options import ReadingOptions, Source, Verbose
from trpo_deploy.cli.output import print_warnings, reserve_stdout
from trpo_deploy.errors import PolicyFileError
from trpo_deploy.extras import require_package
from trpo_deploy.files.exported import find_onnx, finished_file
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.names import ONNX

if TYPE_CHECKING:
    from trpo_deploy.export import Certificate


@option_groups
def verify(
    source: Source,
    policy: Annotated[
        Path,
        typer.Argument(
            metavar="POLICY", help="ONNX file, or folder of a target.", show_default=False
        ),
    ],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the certificate to this file.")
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Run the ONNX file also in openvino, tract or opencv. Repeatable.",
        ),
    ] = None,
    reading: ReadingOptions,
    verbose: Verbose = False,
) -> None:
    """Check that a file behaves exactly like the trained policy; exit with 1 if not.

    To compare a target's folder with the policy.onnx that it was made from, give the policy.onnx
    as SOURCE. The folder's code is compiled and run: check only folders that you trust.
    """
    reserve_stdout()
    _check_order(source, policy)
    certificate = _certificate(source, policy, engine or [], reading)
    from trpo_deploy.files.atomic import atomic_write

    if output is not None:
        atomic_write(output, certificate.to_json())
    print_warnings(certificate.warnings)
    print_certificate(certificate.to_dict(), verbose=verbose)
    if not certificate.passed:
        raise typer.Exit(1)


def _check_order(source: Path, policy: Path) -> None:
    """Raise if the second argument is the source and not the exported file."""
    is_swapped = source.suffix == ONNX and policy.is_dir() and any(policy.glob("*.zip"))
    if is_swapped or is_zipfile(policy):
        raise PolicyFileError(
            f"{policy} is a trained policy, not an ONNX file; the source comes first: "
            f"trpo-deploy verify {policy} {source if source.suffix == ONNX else 'POLICY.onnx'}"
        )


def _exported(policy: Path) -> Path:
    """The exported file or the target's folder; of a model folder its ``policy.onnx``.

    Raises:
        ModelDirError: It does not exist.
    """
    is_target = policy.is_dir() and not ModelDir(policy).policy_zip.is_file()
    return policy if is_target else find_onnx(policy)


def _certificate(
    source: Path, policy: Path, engines: list[str], reading: ReadingOptions
) -> Certificate:
    if engines and policy.is_dir():
        raise PolicyFileError(
            f"--engine runs an ONNX file, but {policy} is a folder; give the policy.onnx"
        )
    finished = finished_file(source)
    if finished is not None and not policy.exists():
        raise PolicyFileError(f"{policy} does not exist; give the folder of a target")
    if finished is not None and policy.is_dir():
        refuse_options(f"{finished}, which is finished", reading)
        require_package("onnx", "export")
        from trpo_deploy.export import verify_target_file

        return verify_target_file(finished, policy)
    found, source_options = reading.locate(source)
    policy = _exported(policy)
    from trpo_deploy.export import verify_policy, verify_target

    compare = verify_target if policy.is_dir() else partial(verify_policy, engines=engines)
    return compare(
        found,
        policy,
        steps=reading.steps,
        seconds=reading.seconds,
        reading=source_options,
    )
