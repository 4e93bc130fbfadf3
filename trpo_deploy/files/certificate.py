"""Files beside an exported file: its certificate, and its spec as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trpo_deploy.errors import ModelDirError
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.names import ONNX, stem


def certificate_path(onnx: Path) -> Path:
    """Path of an ONNX file's certificate, in the same folder."""
    model_dir = ModelDir(onnx.parent)
    if onnx.name == model_dir.onnx.name:
        return model_dir.certificate
    return onnx.with_name(f"{stem(onnx, ONNX)}.certificate.json")


def policy_json_path(onnx: Path) -> Path:
    """Path of an ONNX file's ``policy.json``, in the same folder."""
    model_dir = ModelDir(onnx.parent)
    if onnx.name == model_dir.onnx.name:
        return model_dir.policy_json
    return onnx.with_name(f"{stem(onnx, ONNX)}.policy.json")


def read_certificate(onnx: Path) -> dict[str, Any] | None:
    """The certificate of an ONNX file, or ``None`` if there is none.

    Raises:
        ModelDirError: The certificate cannot be read.
    """
    path = certificate_path(onnx)
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelDirError(f"{path} cannot be read as a certificate ({error})") from error
    if not isinstance(value, dict):
        raise ModelDirError(f"{path} is not a certificate: expected a JSON object")
    return value


def _refuse(constant: str) -> float:
    """NaN and infinities, which are not JSON."""
    raise ValueError(f"{constant} is not JSON")
