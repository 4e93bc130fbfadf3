"""Which path stands for what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Literal, TypeAlias

import orjson

from trpo_deploy.serve.http import HTML, Reply, Request
from trpo_deploy.serve.inference_v2 import InferenceV2
from trpo_deploy.serve.openapi import DOCS_PAGE, describe_service
from trpo_deploy.serve.predict import Predictor
from trpo_deploy.serve.registry import Registry, Slot
from trpo_deploy.serve.settings import Settings
from trpo_deploy.spec import Json

Guard: TypeAlias = Literal["open", "key", "admin"]

draining = Event()
"""Set in a process that is about to stop: ``/readyz`` asks to send no more requests here."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a path stands for.

    ``label`` is the path with its variables left open, for the metrics. ``guard`` says which
    keys it takes. ``slow`` ones leave the event loop to others while they run.
    """

    label: str
    method: str
    handler: Callable[[Request], Reply]
    guard: Guard = "key"
    slow: bool = False


class Endpoints:
    """Finds the endpoint of a path.

    Args:
        registry: the served models.
        settings: limits.
    """

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry = registry
        self._settings = settings
        self._v2 = InferenceV2(registry, settings)
        self.predictor = Predictor(registry, settings)
        self._fixed = {endpoint.label: endpoint for endpoint in self._without_variables()}

    def find(self, path: str) -> Endpoint | None:
        """The endpoint of a path, if there is one."""
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed
        match path.split("/")[1:]:
            case ["v2", "models", name, *rest]:
                return self._find_v2(name, rest)
            case ["models", name, "predict"]:
                return self._predict("/models/NAME/predict", name, None)
            case ["models", name, "versions", version, "predict"]:
                return self._predict("/models/NAME/versions/VERSION/predict", name, version)
            case ["models", name]:
                return Endpoint("/models/NAME", "GET", lambda _: self._model(name))
            case ["admin", "models", name, "load"]:
                return Endpoint(
                    "/admin/models/NAME/load", "POST", lambda _: self._load(name), "admin", True
                )
        return None

    def _without_variables(self) -> list[Endpoint]:
        return [
            self._predict("/predict", None, None),
            Endpoint("/models", "GET", lambda _: self._models()),
            Endpoint("/livez", "GET", lambda _: Reply(b'{"live":true}'), "open"),
            Endpoint("/readyz", "GET", lambda _: self._ready(), "open"),
            Endpoint("/docs", "GET", lambda _: Reply(DOCS_PAGE, content_type=HTML), "open"),
            Endpoint("/", "GET", lambda _: Reply(DOCS_PAGE, content_type=HTML), "open"),
            Endpoint("/docs.json", "GET", lambda _: self._openapi(), slow=True),
            Endpoint("/v2", "GET", lambda _: self._v2.server(), "open"),
            Endpoint("/v2/health/live", "GET", lambda _: Reply(b'{"live":true}'), "open"),
            Endpoint("/v2/health/ready", "GET", lambda _: self._ready(), "open"),
            Endpoint("/v2/repository/index", "POST", lambda _: self._v2.index()),
        ]

    def _predict(self, label: str, name: str | None, version: str | None) -> Endpoint:
        predict = self.predictor.predict
        return Endpoint(label, "POST", lambda request: predict(request, name, version))

    def _find_v2(self, name: str, rest: list[str]) -> Endpoint | None:
        label = "/v2/models/NAME"
        version: str | None = None
        if rest[:1] == ["versions"] and len(rest) > 1:
            label += "/versions/VERSION"
            version, rest = rest[1], rest[2:]
        match rest:
            case ["infer"]:
                infer = self._v2.infer
                return Endpoint(f"{label}/infer", "POST", lambda r: infer(r, name, version))
            case ["ready"]:
                return Endpoint(f"{label}/ready", "GET", lambda _: self._v2.ready(name, version))
            case []:
                return Endpoint(label, "GET", lambda _: self._v2.metadata(name, version))
        return None

    def _models(self) -> Reply:
        models = {name: _summary(slot) for name, slot in self._registry.slots.items()}
        return Reply(orjson.dumps({"models": models}))

    def _model(self, name: str) -> Reply:
        model = self._registry.get(name)
        spec = orjson.loads(model.policy.spec.to_json())
        value = {
            "name": name,
            **_summary(self._registry.slots[name]),
            "sha256": model.policy.sha256,
            "spec": spec,
            "certificate": model.certificate,
        }
        return Reply(orjson.dumps(value), name)

    def _load(self, name: str) -> Reply:
        model = self._registry.load(name)
        value = {"model": name, "version": model.version, "sha256": model.policy.sha256}
        return Reply(orjson.dumps(value), name)

    def _ready(self) -> Reply:
        slots = self._registry.slots
        ready = not draining.is_set() and any(slot.versions for slot in slots.values())
        # Only the state: why is for those who may see /models.
        models = {name: slot.state for name, slot in slots.items()}
        body = orjson.dumps({"ready": ready, "draining": draining.is_set(), "models": models})
        return Reply(body, status=200 if ready else 503)

    def _openapi(self) -> Reply:
        return Reply(orjson.dumps(describe_service(self._registry, self._settings)))


def _summary(slot: Slot) -> Json:
    latest = slot.latest
    return {
        "version": latest and latest.version,
        "versions": list(slot.versions),
        "error": slot.error,
        "observation_space": latest and latest.policy.spec.observation_space.describe(),
        "action_space": latest and latest.policy.spec.action_space.describe(),
        "certified": latest is not None and latest.certificate is not None,
    }
