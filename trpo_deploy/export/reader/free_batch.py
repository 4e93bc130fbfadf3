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


def check_free_batch(name: str, module: nn.Module, example: tuple[torch.Tensor, ...]) -> None:
    """Run an extractor in batches of all :data:`BATCHES`.

    Args:
        name: Name of the extractor's class.
        module: The extractor; takes its observations as positional arguments.
        example: Preprocessed observations, each with as many rows as the largest batch.

    Raises:
        ExportError: A batch fails, or a row has other features in a batch than alone.
    """

    def torch_features(rows: tuple[torch.Tensor, ...]) -> Array:
        with torch.no_grad():
            return np.asarray(module(*rows).cpu().numpy())

    def batch(rows: slice) -> Array:
        return _features(name, torch_features, tuple(each[rows] for each in example))

    alone = [batch(slice(row, row + 1)) for row in range(max(BATCHES))]
    tolerance = _RELATIVE * max(np.abs(each).max(initial=0) for each in alone)
    for size in BATCHES:
        together = batch(slice(size))
        if any(each.shape[1:] != together.shape[1:] for each in alone):
            raise _refusal(name, f"a batch of {size} has features of the shape {together.shape}")
        if np.abs(together - np.concatenate(alone[:size])).max(initial=0) > tolerance:
            raise _refusal(name, f"a row has other features in a batch of {size} than alone")


def check_graph(name: str, content: bytes, example: tuple[torch.Tensor, ...]) -> None:
    """Run the graph of an extractor in batches of all :data:`BATCHES`.

    Args:
        name: Name of the extractor's class.
        content: The ONNX model of the extractor.
        example: As for :func:`check_free_batch`.

    Raises:
        ExportError: A batch fails.
    """
    graph = _graph(name, content)
    shapes = {
        _features(name, graph, tuple(each[:size] for each in example)).shape[1:] for size in BATCHES
    }
    if len(shapes) > 1:
        raise _refusal(name, f"the features have the shapes {sorted(shapes)}")


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
