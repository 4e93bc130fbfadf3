"""onnxruntime in place of a game's engine."""

from __future__ import annotations

from collections.abc import Mapping

import onnxruntime as ort

from trpo_deploy.errors import ExportError
from trpo_deploy.spec.spaces import Array


def load_session(content: bytes, engine: str) -> ort.InferenceSession:
    """Load a file.

    Raises:
        ExportError: onnxruntime cannot load it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # an error comes as an exception
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no public base class
        raise ExportError(f"the file for {engine} cannot be loaded ({_line(error)})") from error


def run_session(
    session: ort.InferenceSession, feeds: Mapping[str, Array], engine: str
) -> dict[str, Array]:
    """All outputs by name.

    Raises:
        ExportError: onnxruntime refuses the inputs.
    """
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))
    except Exception as error:  # as above
        raise ExportError(f"the file for {engine} cannot be run ({_line(error)})") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
