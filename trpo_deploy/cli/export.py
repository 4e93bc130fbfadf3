"""``trpo-deploy export``: write a policy as one certified ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trpo_deploy.cli.option_groups import option_groups
from trpo_deploy.cli.options import ReadingOptions, Source
from trpo_deploy.cli.output import print_export

if TYPE_CHECKING:
    from trpo_deploy.export import ExportOptions


@dataclass(frozen=True)
class FileOptions:
    """What the exported file contains."""

    add_output: Annotated[
        list[str] | None,
        typer.Option(
            help="Additional output: value, log_prob, logits, mean, std or margin; repeatable."
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
        typer.Option("--float64-input", help="Take and normalise float observations as float64."),
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
) -> None:
    """Export a policy to one ONNX file with a certificate."""
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
    print_export(result)
