"""One served model with all its versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.models.view import Status


@dataclass(frozen=True)
class ModelEntry:
    """The versions of one model. Immutable: a change makes a new entry."""

    status: Status
    """``ready``, ``stale`` (other content is served than lies on disk) or ``failed``."""
    error: str | None = None
    """Why the content on disk is not what is served."""
    versions: Mapping[str, ServedModel] = field(default_factory=dict)
    """Served models by version, oldest first."""

    @property
    def latest(self) -> ServedModel | None:
        """The newest version."""
        return [*self.versions.values()][-1] if self.versions else None
