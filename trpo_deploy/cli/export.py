"""``trpo-deploy export``: write a policy as one certified ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trpo_deploy.cli.certificate import print_certificate
from trpo_deploy.cli.option_groups import option_groups
from trpo_deploy.cli.options import ReadingOptions, Source, Verbose
from trpo_deploy.cli.output import escape, print_warnings, reserve_stdout, say
from trpo_deploy.files.certificate import certificate_path

if TYPE_CHECKING:
    from trpo_deploy.export import Export, ExportOptions


@dataclass(frozen=True)
class FileOptions:
    """What the exported file contains."""

    add_output: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Additional output: value, log_prob, logits, mean, std or margin; repeatable.",
        ),
    ] = None
    opset: Annotated[int | None, typer.Option(help="ONNX opset version. (default: 13)")] = None
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
        typer.Option(help="YAML file with names and units; trpo-deploy names writes one to edit."),
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


@option_groups
def export(
    source: Source,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="ONNX file. (default: policy.onnx in the model folder, else NAME.onnx here)",
        ),
    ] = None,
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
    """Export a policy to one ONNX file with a certificate."""
    reserve_stdout()
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


def print_export(result: Export, *, verbose: bool = False) -> None:
    """Print the files of an export, its warnings and its certificate.

    Args:
        result: The export.
        verbose: Print every check and the parts of the zip that were not read, too.
    """
    names = [result.card.name]
    if result.certificate is not None:
        names.insert(0, certificate_path(result.path).name)
    size = f"{result.size / 1024:.1f} kB"
    say(f"wrote {escape(result.path)} ({size}) with {escape(' and '.join(names))}")
    print_warnings(result.warnings)
    if verbose and result.skipped:
        say(f"not read, as nothing needs it: {escape(', '.join(result.skipped))}")
    if result.certificate is None:
        say("not verified: no certificate was written")
    else:
        print_certificate(result.certificate.to_dict(), verbose=verbose)
