"""The section about the exported policy in a model card."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trpo_deploy.export.certify.certificate import Certificate
from trpo_deploy.files.certificate_words import passed_in_words
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.names import ONNX, stem
from trpo_deploy.spec.component_table import Table, component_tables, period_text
from trpo_deploy.spec.policy_spec import PolicySpec

_MOST_ROWS = 128
"""Longer tables are left out of a card."""

_BEGIN, _END = "<!-- policy.onnx -->", "<!-- end of policy.onnx -->"


def card_path(onnx: Path, model_dir: ModelDir | None) -> Path:
    """Path of the card of an ONNX file.

    Args:
        onnx: The ONNX file.
        model_dir: Model folder that the policy came from, if any.
    """
    if model_dir is not None and model_dir.onnx == onnx:
        return model_dir.card
    return onnx.with_name(f"{stem(onnx, ONNX)}.md")


def card_text(
    onnx: Path,
    model_dir: ModelDir | None,
    spec: PolicySpec,
    certificate: Certificate | None,
    warnings: Sequence[str],
) -> str:
    """The card of an exported file.

    It is a section of the file at :func:`card_path`, whose other text is kept. In a model folder
    that is ``README.md``, elsewhere a file named after the ONNX file.

    Args:
        onnx: The ONNX file.
        model_dir: Model folder that the policy came from, if any.
        spec: Spec of the file.
        certificate: Certificate of the file, if it was verified.
        warnings: Numerical problems that the user should know about.
    """
    section = "\n".join([_BEGIN, *_lines(onnx.name, spec, certificate, warnings), _END]) + "\n"
    path = card_path(onnx, model_dir)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    others = re.sub(f"{_BEGIN}.*{_END}\n?", "", text, flags=re.DOTALL).rstrip()
    return f"{others}\n\n{section}" if others else section


def _lines(
    name: str, spec: PolicySpec, certificate: Certificate | None, warnings: Sequence[str]
) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    yield f"{spec.algorithm} on {spec.environment or 'an unknown environment'}, as one file."
    yield ""
    yield "| | name | dtype | shape |"
    yield "|---|---|---|---|"
    for role, tensors in (("input", spec.inputs), ("output", spec.outputs)):
        for tensor in tensors:
            shape = ", ".join(["batch", *map(str, tensor.shape)])
            yield f"| {role} | `{tensor.name}` | {tensor.dtype} | ({shape}) |"
    yield ""
    yield from component_lines(spec)
    yield from (f"- {step}" for step in spec.preprocessing)
    if spec.guard is None:
        yield (
            "- The result for NaN is undefined and differs between engines; the Python runtime "
            "refuses NaN. Export with `--guard` to get a safe action."
        )
    else:
        yield (
            f"- A NaN or infinite observation gives the action {spec.guard.action.tolist()} and "
            f"`{spec.guard.output}` = false."
        )
    yield from (f"- Warning: {warning}" for warning in warnings)
    yield ""
    yield from _verification(certificate)


def component_lines(spec: PolicySpec) -> Iterator[str]:
    """Names, units and bounds of all numbers, the control period and the safe action."""
    for table in component_tables(spec):
        yield from _table_lines(table)
    if spec.period is not None:
        yield f"- Control period: {period_text(spec)}."
    if spec.safe_action is not None:
        yield f"- Action when nothing is known: {spec.safe_action.tolist()}."


def _table_lines(table: Table) -> Iterator[str]:
    yield f"{table.title[0].upper()}{table.title[1:]}:"
    yield ""
    if len(table.rows) > _MOST_ROWS:
        yield f"{len(table.rows)} numbers; `trpo-deploy inspect` lists them."
    else:
        yield f"| {' | '.join(table.columns)} |"
        yield f"|{'---|' * len(table.columns)}"
        for row in table.rows:
            yield f"| {' | '.join(map(_cell, row))} |"
    yield ""


def _cell(text: str) -> str:
    """A cell of a Markdown table: a name may contain what is markup."""
    quoted = text.replace("`", "'").replace("|", r"\|")
    return f"`{quoted}`" if text else ""


def _verification(certificate: Certificate | None) -> Iterator[str]:
    if certificate is None:
        yield "Not verified."
        return
    if certificate.passed:
        yield f"The same policy as the trained one; {passed_in_words(certificate.to_dict())}."
    else:
        yield "NOT the same policy as the trained one."
    yield "The certificate says how each check was made and what it measured:"
    yield ""
    for check in certificate.checks:
        yield f"- {check.name}: {check.result}" + (f"; {check.note}" if check.note else "")
    yield from _returns(certificate.returns)


def _returns(returns: Mapping[str, Any]) -> Iterator[str]:
    """The returns of both in the episodes of the certificate, as a table."""
    if not returns:
        return
    yield ""
    yield (
        f"Returns in the {returns['episodes']} episodes of the certificate. Other seeds have other "
        "returns, and the deviation is large where a few episodes ended early:"
    )
    yield ""
    yield "| | mean | 95 % interval of the mean | standard deviation of the episodes |"
    yield "|---|---|---|---|"
    for key, name in (("onnx", "file"), ("sb3", "trained policy")):
        each = returns[key]
        interval = f"{each['ci95_low']:.5g} to {each['ci95_high']:.5g}"
        yield f"| {name} | {each['mean']:.5g} | {interval} | {each['std']:.5g} |"
