"""Features extractors of the user's own, by torch's exporter.

All that Stable-Baselines3 has is written operator by operator from the weights. Code of the
user's own can only be followed while it runs; what comes out is put into the same graph, without
the paths and source lines that torch writes beside each operator.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from gymnasium import spaces
from onnx import compose
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import nn

from trpo_deploy.errors import ExportError
from trpo_deploy.export.graph.builder import GraphBuilder


@dataclass(frozen=True, eq=False)
class TracedFeatures:
    """An extractor and an example of what it is given."""

    extractor: nn.Module
    inputs: tuple[str, ...]
    """The observation's names."""
    example: tuple[torch.Tensor, ...]
    """Preprocessed observations in the order of the names, each ``(2, ...)``."""
    has_keys: bool

    def add_to(self, graph: GraphBuilder, observations: list[str], prefix: str) -> str:
        """Put the traced nodes into a graph.

        Args:
            graph: to add to.
            observations: the tensors that hold the preprocessed observations.
            prefix: of the names of what is added.

        Raises:
            ExportError: torch cannot export the extractor at the graph's opset.
        """
        traced = compose.add_prefix(self._trace(graph.opset), f"{prefix}/")
        names = dict(zip((each.name for each in traced.graph.input), observations, strict=True))
        for node in traced.graph.node:
            node.ClearField("doc_string")  # source lines of the exporting machine
            node.ClearField("metadata_props")
            for index, name in enumerate(node.input):
                node.input[index] = names.get(name, name)
            if node.domain not in ("", "ai.onnx"):
                raise ExportError(
                    f"the features extractor {type(self.extractor).__name__} needs the operator "
                    f"{node.domain}.{node.op_type}, which no engine but torch's has"
                )
        graph.nodes.extend(traced.graph.node)
        graph.initializers.extend(traced.graph.initializer)
        return str(traced.graph.output[0].name)

    def _trace(self, opset: int) -> onnx.ModelProto:
        names = list(self.inputs)
        try:
            with TemporaryDirectory() as folder, warnings.catch_warnings():
                path = Path(folder) / "features.onnx"
                # The old exporter says that it is old; the new one cannot be told to write
                # opset 13.
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    _ByPosition(self.extractor, names if self.has_keys else None).eval(),
                    self.example,
                    path,
                    dynamo=False,
                    opset_version=opset,
                    input_names=[f"in_{name}" for name in names],
                    output_names=["features"],
                    dynamic_axes={f"in_{name}": {0: "batch"} for name in names},
                )
                return onnx.load(path)
        except Exception as error:  # torch and the user's code raise what they like
            reason = " ".join(str(error).split())[:300]
            raise ExportError(
                f"torch cannot export the features extractor {type(self.extractor).__name__} at "
                f"opset {opset} ({reason})"
            ) from error


class _ByPosition(nn.Module):
    """An extractor whose keys are arguments in a row."""

    def __init__(self, extractor: nn.Module, keys: list[str] | None) -> None:
        super().__init__()
        self.extractor = extractor
        self.keys = keys

    def forward(self, *observations: torch.Tensor) -> Any:
        if self.keys is None:
            return self.extractor(*observations)
        return self.extractor(dict(zip(self.keys, observations, strict=True)))


def traced_features(
    extractor: nn.Module, policy: ActorCriticPolicy, names: tuple[str, ...]
) -> TracedFeatures:
    """An extractor of any class, with an example out of the policy's observation space."""
    space = policy.observation_space
    has_keys = isinstance(space, spaces.Dict)
    parts = space.spaces if isinstance(space, spaces.Dict) else {names[0]: space}
    example = []
    for name in names:
        batch = torch.as_tensor(np.stack([parts[name].sample()] * 2))
        tensor = preprocess_obs(batch, parts[name], normalize_images=policy.normalize_images)
        assert isinstance(tensor, torch.Tensor)
        example.append(tensor)
    return TracedFeatures(extractor, names, tuple(example), has_keys)
