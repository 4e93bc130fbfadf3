"""``trpo-deploy export``: write a policy as one certified ONNX file, or as a target's files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trpo_deploy.cli.certificate import print_certificate
from trpo_deploy.cli.option_groups import option_groups, refuse_options
from trpo_deploy.cli.options import ReadingOptions, Source, Verbose
from trpo_deploy.cli.output import escape, print_warnings, reserve_stdout, say
from trpo_deploy.errors import ExportError
from trpo_deploy.export.targets.table import DEFAULT, TARGETS, check_target
from trpo_deploy.extras import require_package
from trpo_deploy.files.certificate import certificate_path, policy_json_path
from trpo_deploy.files.exported import finished_file

if TYPE_CHECKING:
    from trpo_deploy.export import Certificate, Export, ExportOptions, TargetExport, TargetOptions
    from trpo_deploy.files.model_dir import ModelDir

_FOLDERS = "; ".join(f"{name}: {target.summary}" for name, target in TARGETS.items())


@dataclass(frozen=True)
class FileOptions:
    """What the exported file contains."""

    add_output: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Additional output: value, log_prob, logits, mean, std or margin. Repeatable.",
        ),
    ] = None
    opset: Annotated[int, typer.Option(help="ONNX opset version.")] = 13
    guard: Annotated[
        bool,
        typer.Option(
            "--guard", help="For NaN and infinity, return a fixed action and obs_ok = false."
        ),
    ] = False
    float64_input: Annotated[
        bool,
        typer.Option(
            "--float64-input",
            help="Take observations that are float64 in the environment as float64, not rounded to "
            "float32.",
        ),
    ] = False
    names: Annotated[
        Path | None,
        typer.Option(help="YAML file with names and units, as trpo-deploy names writes it."),
    ] = None

    def export_options(self) -> ExportOptions:
        """The options for the exporter."""
        from trpo_deploy.export import ExportOptions

        return ExportOptions(
            outputs=tuple(self.add_output or ()),
            opset=self.opset,
            guard=self.guard,
            float64_input=self.float64_input,
            names=self.names,
        )


@dataclass(frozen=True)
class TargetChoice:
    """The form of the exported policy."""

    target: Annotated[
        str,
        typer.Option(
            help=f"onnx, or a folder of files, for which SOURCE may be a policy.onnx ({_FOLDERS}).",
            metavar="NAME",
        ),
    ] = DEFAULT
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the policy in a target's files.", show_default="the model's name"
        ),
    ] = None
    force: Annotated[
        bool, typer.Option("--force", help="Write into a folder that is not empty.")
    ] = False


@option_groups
def export(
    source: Source,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="ONNX file, or folder of another target.",
            show_default="policy.onnx or TARGET in the model folder, else NAME.onnx or NAME-TARGET "
            "here",
        ),
    ] = None,
    to: TargetChoice,
    file: FileOptions,
    reading: ReadingOptions,
    verify: Annotated[
        bool, typer.Option(help="Check the file against the policy; write nothing if they differ.")
    ] = True,
    golden: Annotated[
        Path | None,
        typer.Option(help="Write golden vectors to this folder, as an ONNX backend test."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Export a policy to one ONNX file with a certificate, or to the files of a target."""
    reserve_stdout()
    check_target(to.target)
    if to.target != DEFAULT:
        refuse_options(f"the target {to.target}", file, "add_output", "opset", "guard")
        if golden is not None:
            raise ExportError(
                f"--golden does not apply to the target {to.target}, whose folder has golden.json"
            )
        result_of_target = _export_target(source, output, to, file, reading, verify=verify)
        print_target_export(result_of_target, verbose=verbose)
        return
    refuse_options("the target onnx", to, "name", "force")
    found, source_options = reading.locate(source)
    from trpo_deploy.export import export_policy
    from trpo_deploy.files.names import ONNX, ZIP, stem

    if output is None:
        here = Path(stem(found.policy_zip, ZIP) + ONNX)
        output = here if found.model_dir is None else found.model_dir.onnx
    result = export_policy(
        found,
        output,
        verify=verify,
        steps=reading.steps,
        seconds=reading.seconds,
        golden=golden,
        options=file.export_options(),
        reading=source_options,
    )
    print_export(result, verbose=verbose)


def _export_target(
    source: Path,
    output: Path | None,
    to: TargetChoice,
    file: FileOptions,
    reading: ReadingOptions,
    *,
    verify: bool,
) -> TargetExport:
    """Export to a folder, from a finished ``policy.onnx`` or from a trained policy."""
    finished = finished_file(source)
    if finished is not None:
        refuse_options(f"{finished}, which is finished", file)
        refuse_options(f"{finished}, which is finished", reading)
        require_package("onnx", "export")
        from trpo_deploy.export import export_file

        return export_file(finished, _options(finished, None, output, to), verify=verify)
    found, source_options = reading.locate(source)
    from trpo_deploy.export import export_target

    return export_target(
        found,
        _options(found.policy_zip, found.model_dir, output, to),
        verify=verify,
        steps=reading.steps,
        seconds=reading.seconds,
        options=file.export_options(),
        reading=source_options,
    )


def _options(
    source: Path, model_dir: ModelDir | None, output: Path | None, to: TargetChoice
) -> TargetOptions:
    """Where a target's files go, and how they name the policy."""
    from trpo_deploy.export import TargetOptions
    from trpo_deploy.export.targets.names import identifier
    from trpo_deploy.files.names import ONNX, ZIP, stem

    own = stem(source, ONNX if source.suffix == ONNX else ZIP)
    title = source.absolute().parent.name if own == "policy" else own
    if output is None:
        here = Path(f"{title}-{to.target}")
        output = here if model_dir is None else model_dir.root / to.target
    name = identifier(title) if to.name is None else to.name
    return TargetOptions(to.target, output, name, force=to.force)


def print_export(result: Export, *, verbose: bool = False) -> None:
    """Print the files of an export, its warnings and its certificate.

    Args:
        result: The export.
        verbose: Print every check and the parts of the zip that were not read, too.
    """
    names = [policy_json_path(result.path).name, result.card.name]
    if result.certificate is not None:
        names.insert(0, certificate_path(result.path).name)
    size = f"{result.size / 1024:.1f} KiB"
    files = f"{', '.join(names[:-1])} and {names[-1]}"
    say(f"wrote {escape(result.path)} ({size}) with {escape(files)}")
    print_warnings(result.warnings)
    if verbose and result.skipped:
        say(f"not read, as nothing needs it: {escape(', '.join(result.skipped))}")
    _print_certificate(result.certificate, verbose=verbose)


def print_target_export(result: TargetExport, *, verbose: bool = False) -> None:
    """Print the folder of a target, its files, its warnings and its certificate."""
    say(f"wrote {escape(result.folder)}: {escape(', '.join(sorted(result.files)))}")
    print_warnings(result.warnings)
    _print_certificate(result.certificate, verbose=verbose)


def _print_certificate(certificate: Certificate | None, *, verbose: bool) -> None:
    if certificate is None:
        say("not verified: no certificate was written")
    else:
        print_certificate(certificate.to_dict(), verbose=verbose)
