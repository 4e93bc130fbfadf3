"""The policy behind a plain BentoML service with its default settings."""

from __future__ import annotations

import os

import bentoml
import numpy as np

from trpo_deploy.runtime import OnnxPolicy


@bentoml.service
class Plain:
    """One policy, two endpoints."""

    def __init__(self) -> None:
        self.policy = OnnxPolicy(os.environ["POLICY"])

    @bentoml.api  # type: ignore[untyped-decorator]
    async def predict(self, observation: list[float]) -> list[float]:
        """The action for a flat observation."""
        action: list[float] = self.policy.predict(np.asarray(observation, np.float32))[0].tolist()
        return action

    @bentoml.api  # type: ignore[untyped-decorator]
    async def frame(self, observation: list[list[list[int]]]) -> list[float]:
        """The action for an image."""
        action: list[float] = self.policy.predict(np.asarray(observation, np.uint8))[0].tolist()
        return action
