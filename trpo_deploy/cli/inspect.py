"""``trpo-deploy inspect``: show what an exported file takes, returns and was made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trpo_deploy.cli.certificate import print_stored_certificate
from trpo_deploy.cli.options import Json, Model
from trpo_deploy.cli.output import escape, print_json, say

if TYPE_CHECKING:
    from trpo_deploy.spec import PolicySpec


def inspect(
    policy: Model,
    trusted_key: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Public key (PEM) that must have signed the file. Repeatable."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show an ONNX file's inputs, outputs, origin, certificate and signature."""
    from trpo_deploy.errors import ModelDirError
    from trpo_deploy.files.certificate import certificate_path, read_certificate
    from trpo_deploy.files.exported import changed_sources, find_onnx
    from trpo_deploy.files.signature import check_signature
    from trpo_deploy.runtime import OnnxPolicy

    path = find_onnx(policy)
    signer = check_signature(path, trusted_key) if trusted_key else None
    loaded = OnnxPolicy(path)
    spec, certificate = loaded.spec, read_certificate(path)
    changed = changed_sources(path, spec.source_sha256)
    if as_json:
        file = {"sha256": loaded.sha256, "size": path.stat().st_size, "certificate": certificate}
        file["signed_with"] = signer and str(signer)
        print_json({**json.loads(spec.to_json()), **file, "changed_sources": changed})
        return
    _print_contract(path, spec)
    _print_components(spec)
    _print_origin(path, spec, loaded.sha256)
    for name in changed:
        say(f"  {name}: [red]has changed since the export[/]; run trpo-deploy export again")
    try:
        print_stored_certificate(certificate, loaded.sha256)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelDirError(
            f"{certificate_path(path)} has an unknown form ({error!r}); run trpo-deploy export "
            "again"
        ) from error
    if signer is not None:
        say(f"  signature: made with {escape(signer)}")


def _print_contract(path: Path, spec: PolicySpec) -> None:
    say(f"[bold]{escape(path)}[/]: {spec.algorithm} on {escape(spec.environment or 'unknown')}")
    for role, tensors, space in (
        ("input", spec.inputs, spec.observation_space),
        ("output", spec.outputs, spec.action_space),
    ):
        for tensor in tensors:
            shape = ", ".join(["batch", *map(str, tensor.shape)])
            key = "" if tensor.key == tensor.name else f", key {tensor.key!r}"
            say(escape(f"  {role:<8}{tensor.name}: {tensor.dtype} ({shape}){key}"))
        say(escape(f"  {'':<8}{space.describe()}"))
    for step in spec.preprocessing:
        say(escape(f"  inside  {step}"))
    if spec.guard is None:
        say("  NaN     not handled in the file; OnnxPolicy refuses it")
    else:
        action = spec.guard.action.tolist()
        say(escape(f"  NaN     returns {spec.guard.output} = false and action {action}"))


def _print_components(spec: PolicySpec) -> None:
    """Print the control period, the safe action, and a table of each array by name."""
    from trpo_deploy.spec.component_table import component_tables, period_text

    say(f"  period  {period_text(spec)}")
    safe = "unknown" if spec.safe_action is None else spec.safe_action.tolist()
    say(escape(f"  safe    action {safe}"))
    for table in component_tables(spec):
        say(escape(f"  {table.title}:"))
        rows = (table.columns, *table.rows)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            say(escape(f"    {'  '.join(cells)}".rstrip()))


def _print_origin(path: Path, spec: PolicySpec, sha256: str) -> None:
    for name, value in spec.training.items():
        say(f"  {name}: {value:g}")
    for name, text in {**spec.versions, **spec.source_sha256, path.name: sha256}.items():
        say(escape(f"  {name}: {text}"))
