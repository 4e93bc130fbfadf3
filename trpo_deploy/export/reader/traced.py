"""Custom features extractors, traced by torch's ONNX exporter.

The layers of Stable-Baselines3 are written operator by operator from their weights. Custom Python
code can only be traced while it runs.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
from trpo_deploy.export.reader.free_batch import BATCHES, check_free_batch, check_graph
from trpo_deploy.export.reader.traced_norms import norms_written_out


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
        batch = torch.as_tensor(np.stack([parts[name].sample() for _ in range(max(BATCHES))]))
        tensor = preprocess_obs(batch, parts[name], normalize_images=policy.normalize_images)
        assert isinstance(tensor, torch.Tensor)
        example.append(tensor)
    module = _Positional(extractor, list(names) if has_keys else None).eval()
    tracer = _Tracer(module, type(extractor).__name__, names, tuple(example))
    return TracedFeatures(tracer.name, names, tracer.trace)


@dataclass(frozen=True, eq=False)
class _Tracer:
    """An extractor and an example of its inputs."""

    module: _Positional
    name: str
    """Name of the extractor's class, for messages."""
    inputs: tuple[str, ...]
    example: tuple[torch.Tensor, ...]
    """Preprocessed observations in the order of :attr:`inputs`, each ``(batch, ...)``."""

    def trace(self, opset: int) -> bytes:
        """The extractor as an ONNX model with the output ``features``.

        Raises:
            ExportError: torch cannot export the extractor with this opset, or the extractor or its
                graph does not take batches of any size.
        """
        # First: torch's exporter would fail on it with a message about operators.
        check_free_batch(self.name, self.module, self.example)
        content = self._export(opset)
        check_graph(self.name, content, self.example)
        return content

    def _export(self, opset: int) -> bytes:
        names = [f"in_{name}" for name in self.inputs]
        try:
            with (
                TemporaryDirectory() as folder,
                warnings.catch_warnings(),
                _without_output(),
                norms_written_out(self.module),
            ):
                path = Path(folder) / "features.onnx"
                # The TorchScript exporter warns that it is deprecated. The newer one cannot write
                # opset 13.
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    self.module,
                    tuple(each[:2] for each in self.example),
                    path,
                    dynamo=False,
                    opset_version=opset,
                    input_names=names,
                    output_names=["features"],
                    dynamic_axes={name: {0: "batch"} for name in names},
                )
                return path.read_bytes()
        except Exception as error:  # torch and custom code can raise anything
            reason = " ".join(str(error).split())[:300]
            raise ExportError(
                f"torch cannot export the features extractor {self.name} with opset {opset} "
                f"({reason}); try a newer opset (--opset N, ExportOptions(opset=N)), or write the "
                "extractor with simpler operations"
            ) from error


@contextmanager
def _without_output() -> Iterator[None]:
    """Discard what the block writes to stdout and stderr, from C++ too.

    torch's exporter prints its whole graph before it raises, and has no switch for that.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    try:
        with open(os.devnull, "wb") as nowhere:
            for descriptor in (1, 2):
                os.dup2(nowhere.fileno(), descriptor)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, before in zip((1, 2), saved, strict=True):
            os.dup2(before, descriptor)
            os.close(before)


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
