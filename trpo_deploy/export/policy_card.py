"""The section about the exported policy in a model card."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from trpo_deploy.export.certify.certificate import Certificate
from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.spec.policy_spec import PolicySpec

_BEGIN, _END = "<!-- policy.onnx -->", "<!-- end of policy.onnx -->"


def write_card(
    onnx: Path,
    model_dir: ModelDir | None,
    spec: PolicySpec,
    certificate: Certificate | None,
    warnings: Sequence[str],
) -> Path:
    """Write the card of an exported file.

    In a model folder the card is a section of ``README.md``, whose other text is kept. Elsewhere it
    is a separate file, named after the ONNX file.

    Args:
        onnx: The ONNX file.
        model_dir: Model folder that the policy came from, if any.
        spec: Spec of the file.
        certificate: Certificate of the file, if it was verified.
        warnings: Numerical problems that the user should know about.

    Returns:
        Path of the card.
    """
    section = "\n".join([_BEGIN, *_lines(onnx.name, spec, certificate, warnings), _END]) + "\n"
    if model_dir is None or model_dir.onnx != onnx:
        path = onnx.with_suffix(".md")
        atomic_write(path, section)
        return path
    path = model_dir.card
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    others = re.sub(f"{_BEGIN}.*{_END}\n?", "", text, flags=re.DOTALL).rstrip()
    atomic_write(path, f"{others}\n\n{section}" if others else section)
    return path


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


def _verification(certificate: Certificate | None) -> Iterator[str]:
    if certificate is None:
        yield "Not verified."
        return
    yield "Compared with the trained policy; details are in the certificate:"
    yield ""
    for check in certificate.checks:
        yield f"- {check.name}: {check.result}" + (f"; {check.note}" if check.note else "")
    for who, values in certificate.returns.items():
        if isinstance(values, dict):
            yield f"- return of {who}: {values['mean']:.6g} ± {values['std']:.3g}"
