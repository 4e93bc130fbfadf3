"""Check that a traced features extractor takes batches of any size, one row independent of others.

Tracing records the operations for one example. Code that writes the batch size as a number, such as
``x.view(1, -1)`` or ``int(x.shape[0])``, gives a graph that runs for that size only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from trpo_deploy.errors import ExportError
from trpo_deploy.spec.spaces import Array

Run: TypeAlias = Callable[[tuple[torch.Tensor, ...]], Array]
"""From preprocessed observations to features, ``(batch, features)``."""

BATCHES = (1, 2, 7)
"""Sizes of the batches that are tried."""
_RELATIVE = 1e-3
"""Largest difference of a row alone and in a batch, relative to the largest feature.

torch's kernels round differently by batch size, up to about 1e-6. Rows that influence one another
differ by the order of the features themselves.
"""


def check_free_batch(
    name: str, module: nn.Module, content: bytes, example: tuple[torch.Tensor, ...]
) -> None:
    """Run the extractor and its graph in batches of all :data:`BATCHES`.

    Args:
        name: Name of the extractor's class.
        module: The extractor; takes its observations as positional arguments.
        content: The ONNX model of the extractor.
        example: Preprocessed observations, each with as many rows as the largest batch.

    Raises:
        ExportError: A batch fails, or a row has other features in a batch than alone.
    """
    graph = _graph(name, content)

    def torch_features(rows: tuple[torch.Tensor, ...]) -> Array:
        with torch.no_grad():
            return np.asarray(module(*rows).cpu().numpy())

    def batch(run: Run, rows: slice) -> Array:
        return _features(name, run, tuple(each[rows] for each in example))

    alone = np.concatenate(
        [batch(torch_features, slice(row, row + 1)) for row in range(max(BATCHES))]
    )
    tolerance = _RELATIVE * np.abs(alone).max(initial=0)
    for size in BATCHES:
        together = batch(torch_features, slice(size))
        if (
            together.shape != alone[:size].shape
            or batch(graph, slice(size)).shape != together.shape
        ):
            raise _refusal(name, f"a batch of {size} has features of the shape {together.shape}")
        if np.abs(together - alone[:size]).max(initial=0) > tolerance:
            raise _refusal(name, f"a row has other features in a batch of {size} than alone")


def _graph(name: str, content: bytes) -> Run:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # a failure is reported by the exception
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no public base class
        reason = " ".join(str(error).split())[:200]
        raise ExportError(
            f"onnxruntime cannot run the features extractor {name} ({reason}); try another opset "
            "(--opset N, ExportOptions(opset=N)) or a newer onnxruntime"
        ) from error
    names = [each.name for each in session.get_inputs()]

    def run(rows: tuple[torch.Tensor, ...]) -> Array:
        arrays = (each.numpy() for each in rows)
        return np.asarray(session.run(None, dict(zip(names, arrays, strict=True)))[0])

    return run


def _features(name: str, run: Run, rows: tuple[torch.Tensor, ...]) -> Array:
    size = len(rows[0])
    try:
        features = run(rows)
    except Exception as error:  # custom code and onnxruntime can raise anything
        reason = " ".join(str(error).split())[:200]
        raise _refusal(name, f"a batch of {size} fails: {reason}") from error
    if features.ndim != 2 or len(features) != size:
        raise _refusal(name, f"a batch of {size} gives features of the shape {features.shape}")
    return features


def _refusal(name: str, problem: str) -> ExportError:
    return ExportError(
        f"the features extractor {name} does not take batches of any size ({problem}); compute "
        "each row on its own and do not write the batch size as a number: torch.flatten(x, 1) or "
        "x.view(x.shape[0], -1), not x.view(1, -1)"
    )
