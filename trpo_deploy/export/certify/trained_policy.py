"""The trained policy that an ONNX file must match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trpo_deploy.envs.environment import Environment
from trpo_deploy.export.policy.network import ActorNetwork
from trpo_deploy.sb3.model_in_memory import ModelInMemory
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.sb3.source import RecordedReturns
from trpo_deploy.sb3.training_record import TrainingRecord


@dataclass(frozen=True, eq=False)
class TrainedPolicy:
    """A policy as Stable-Baselines3 runs it, and all that a comparison needs."""

    reference: SB3Policy
    actor: ActorNetwork
    """The policy as the exporter read it."""
    sha256: Mapping[str, str]
    """Hashes of the policy zip and of the statistics."""
    environment: Environment | None = None
    """Source of on-policy observations and returns; without it only synthetic observations are
    compared."""
    model: ModelInMemory | None = None
    """The model with its environment, if it was in memory."""
    environment_note: str = ""
    """Why there is no environment, or why it differs from the one in training."""
    training_record: TrainingRecord = field(default_factory=TrainingRecord)
    """What the model kept of its training."""
    normalize_check: bool = True
    """Whether observations of the training far outside of their range are a failure."""
    training_returns: tuple[RecordedReturns, ...] = ()
    """Returns that the training recorded."""
