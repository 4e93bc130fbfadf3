"""``trpo-deploy names``: write a file with names and units, to edit and export with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trpo_deploy.cli.options import AllowImport, EnvOverride, ReadingOptions
from trpo_deploy.cli.output import escape, say


def names(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Policy zip, model folder, RL Zoo run folder, or ONNX file.",
            show_default=False,
        ),
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="YAML file to write.", show_default="stdout"),
    ] = None,
    env: EnvOverride = None,
    allow_import: AllowImport = None,
) -> None:
    """Write a YAML file with names, units, period and safe action, for export --names."""
    from trpo_deploy.errors import ConfigError
    from trpo_deploy.files.atomic import atomic_write

    if output is not None and output.exists():
        raise ConfigError(f"{output} exists and may be edited; give another name with -o")
    text = _template(source, ReadingOptions(env=env, allow_import=allow_import))
    if output is None:
        print(text, end="")
    else:
        atomic_write(output, text)
        say(f"wrote {escape(output)}; edit it, then: trpo-deploy export SOURCE --names FILE")


def _template(source: Path, reading: ReadingOptions) -> str:
    if source.suffix == ".onnx":
        from trpo_deploy.files.names_file import names_template
        from trpo_deploy.runtime import OnnxPolicy

        spec = OnnxPolicy(source).spec
        return names_template(spec.control, spec.observation_spaces, spec.action_space)
    found, options = reading.locate(source)
    from trpo_deploy.export.control import source_template

    return source_template(found, options)
