"""The ONNX file in a target's folder."""

from __future__ import annotations

from pathlib import Path

from trpo_deploy.errors import ExportError

_MAX_BYTES = 2**31  # protobuf's limit


def read_model(folder: Path, name: str) -> bytes:
    """Read ``NAME.onnx``.

    Raises:
        ExportError: The file is missing, or too large for ONNX.
    """
    path = folder / f"{name}.onnx"
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ExportError(f"{path} is larger than 2 GiB, which no ONNX file is")
        return path.read_bytes()
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror}") from error
