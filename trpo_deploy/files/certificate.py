"""The certificate beside an exported file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from trpo_deploy.errors import ModelDirError

if sys.platform != "win32":
    pass
from trpo_deploy.files.model_dir import ModelDir


def certificate_path(onnx: Path) -> Path:
    """Where the certificate of an ONNX file lies: beside it."""
    model_dir = ModelDir(onnx.parent)
    if onnx.name == model_dir.onnx.name:
        return model_dir.certificate
    return onnx.with_suffix(".certificate.json")


def read_certificate(onnx: Path) -> dict[str, Any] | None:
    """The certificate beside an ONNX file, if there is one.

    Raises:
        ModelDirError: it cannot be read.
    """
    path = certificate_path(onnx)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelDirError(f"{path} cannot be read as a certificate ({error})") from error
    if not isinstance(value, dict):
        raise ModelDirError(f"{path} holds no certificate")
    return value
