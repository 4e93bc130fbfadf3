"""A policy whose runs end with an answer, also when they are stopped."""

from __future__ import annotations

from pathlib import Path

from trpo_deploy.errors import PolicyStoppedError
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.serve.errors import RequestError
from trpo_deploy.spec.policy_spec import Inputs
from trpo_deploy.spec.spaces import Array

_NO_MEMORY = ("Failed to allocate memory", "bad_alloc")
"""Texts in onnxruntime's errors."""


class ServedPolicy(OnnxPolicy):
    """A policy of the service.

    Args:
        path: The file.
        name: Name of the model.
    """

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(path)
        self.name = name

    def run(self, outputs: list[str], inputs: Inputs) -> list[Array]:
        """Compute outputs, like :meth:`OnnxPolicy.run`.

        Raises:
            RequestError: The watchdog stopped the run (503).
            MemoryError: The run takes more memory than there is.
        """
        try:
            return super().run(outputs, inputs)
        except PolicyStoppedError as error:
            raise RequestError(
                503,
                "model_too_slow",
                f"model {self.name!r} took too long for this observation and was stopped",
                field="model",
            ) from error
        except Exception as error:  # onnxruntime has no exception of its own for this
            if any(text in str(error) for text in _NO_MEMORY):
                raise MemoryError from error
            raise
