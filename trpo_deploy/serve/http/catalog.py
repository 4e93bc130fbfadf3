"""``/models``: what is served; ``/admin/models/NAME/load``: load it again."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from trpo_deploy.serve.messages import Reply, Request
from trpo_deploy.serve.models.entry import ModelEntry
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.spec.spaces import Json


@dataclass(frozen=True, slots=True)
class Catalog:
    """Describes and reloads the served models."""

    registry: Registry

    def list_models(self) -> Reply:
        """``GET /models``."""
        models = {name: _summary(entry) for name, entry in self.registry.entries.items()}
        return Reply(orjson.dumps({"models": models}))

    def describe_model(self, request: Request) -> Reply:
        """``GET /models/NAME``: spec and certificate.

        Raises:
            RequestError: The model does not exist or is not loaded.
        """
        model = self.registry.get(request.model)
        spec = orjson.loads(model.policy.spec.to_json())
        value = {
            "name": model.name,
            **_summary(self.registry.entries[model.name]),
            "sha256": model.policy.sha256,
            "spec": spec,
            "certificate": model.certificate,
        }
        return Reply(orjson.dumps(value), model.name)

    def load_model(self, request: Request) -> Reply:
        """``POST /admin/models/NAME/load``.

        Raises:
            RequestError: The model does not exist, or its files were refused.
        """
        model = self.registry.load(request.model or "")
        value = {"model": model.name, "version": model.version, "sha256": model.policy.sha256}
        return Reply(orjson.dumps(value), model.name)


def _summary(entry: ModelEntry) -> Json:
    latest = entry.latest
    return {
        "status": entry.status,
        "version": latest and latest.version,
        "versions": list(entry.versions),
        "error": entry.error,
        "observation_space": latest and latest.policy.spec.observation_space.describe(),
        "action_space": latest and latest.policy.spec.action_space.describe(),
        "certified": latest is not None and latest.certificate is not None,
    }
