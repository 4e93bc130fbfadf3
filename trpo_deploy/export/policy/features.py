"""Features extractors: known layers, or a custom extractor as a traced subgraph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from trpo_deploy.export.policy.layers import Layer


@dataclass(frozen=True)
class Branch:
    """Layers that compute the features of one input."""

    input: str
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class TracedFeatures:
    """A custom extractor, which only torch can follow."""

    extractor: str
    """Name of the extractor's class, for messages."""
    inputs: tuple[str, ...]
    """Names of the observations, in the order of the subgraph's inputs."""
    trace: Callable[[int], bytes]
    """ONNX model of the extractor for a given opset.

    A function, since tracing is slow and only an export needs it, not a verification.
    """


Features: TypeAlias = tuple[Branch, ...] | TracedFeatures
"""The features of all branches are concatenated in order."""
