"""Custom features extractors, traced by torch's ONNX exporter.

The layers of Stable-Baselines3 are written operator by operator from their weights. Custom Python
code can only be traced while it runs.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import nn

from trpo_deploy.errors import ExportError
from trpo_deploy.export.policy.features import TracedFeatures


def traced_features(
    extractor: nn.Module, policy: ActorCriticPolicy, names: tuple[str, ...]
) -> TracedFeatures:
    """A custom extractor, to be traced with samples of the policy's observation space.

    Args:
        extractor: The extractor, of any class.
        policy: The policy that it belongs to.
        names: Names of the observations.
    """
    space = policy.observation_space
    has_keys = isinstance(space, spaces.Dict)
    parts = space.spaces if isinstance(space, spaces.Dict) else {names[0]: space}
    example = []
    for name in names:
        batch = torch.as_tensor(np.stack([parts[name].sample()] * 2))
        tensor = preprocess_obs(batch, parts[name], normalize_images=policy.normalize_images)
        assert isinstance(tensor, torch.Tensor)
        example.append(tensor)
    tracer = _Tracer(extractor, names, tuple(example), has_keys)
    return TracedFeatures(type(extractor).__name__, names, tracer.trace)


@dataclass(frozen=True, eq=False)
class _Tracer:
    """An extractor and an example of its inputs."""

    extractor: nn.Module
    inputs: tuple[str, ...]
    example: tuple[torch.Tensor, ...]
    """Preprocessed observations in the order of :attr:`inputs`, each ``(2, ...)``."""
    has_keys: bool

    def trace(self, opset: int) -> bytes:
        """The extractor as an ONNX model with the output ``features``.

        Raises:
            ExportError: torch cannot export the extractor with this opset.
        """
        names = list(self.inputs)
        module = _Positional(self.extractor, names if self.has_keys else None).eval()
        try:
            with TemporaryDirectory() as folder, warnings.catch_warnings():
                path = Path(folder) / "features.onnx"
                # The TorchScript exporter warns that it is deprecated. The newer one cannot write
                # opset 13.
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    module,
                    self.example,
                    path,
                    dynamo=False,
                    opset_version=opset,
                    input_names=[f"in_{name}" for name in names],
                    output_names=["features"],
                    dynamic_axes={f"in_{name}": {0: "batch"} for name in names},
                )
                return path.read_bytes()
        except Exception as error:  # torch and custom code can raise anything
            reason = " ".join(str(error).split())[:300]
            raise ExportError(
                f"torch cannot export the features extractor {type(self.extractor).__name__} with "
                f"opset {opset} ({reason})"
            ) from error


class _Positional(nn.Module):
    """An extractor that takes its observations as positional arguments."""

    def __init__(self, extractor: nn.Module, keys: list[str] | None) -> None:
        super().__init__()
        self.extractor = extractor
        self.keys = keys

    def forward(self, *observations: torch.Tensor) -> Any:
        if self.keys is None:
            return self.extractor(*observations)
        return self.extractor(dict(zip(self.keys, observations, strict=True)))
