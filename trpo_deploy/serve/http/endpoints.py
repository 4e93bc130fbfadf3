"""Which path stands for what."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event
from typing import Literal, TypeAlias

import orjson

from trpo_deploy.serve.messages import HTML, Reply, Request
from trpo_deploy.serve.models.registry import Registry, Slot
from trpo_deploy.serve.protocols.batching import Question
from trpo_deploy.serve.protocols.inference_v2 import InferenceV2
from trpo_deploy.serve.protocols.openapi import DOCS_PAGE, describe_service
from trpo_deploy.serve.protocols.predict import Predictor
from trpo_deploy.serve.settings import Settings
from trpo_deploy.spec.spaces import Json

Guard: TypeAlias = Literal["open", "key", "admin"]

_MODEL_PATH = re.compile("(/v2|/admin|)/models/([^/]*)(?:/versions/([^/]*))?(/[^/]*|)")
"""What comes before, the model's name, its version, and what comes after."""

draining = Event()
"""Set in a process that is about to stop: ``/readyz`` asks to send no more requests here."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a path stands for.

    ``label`` is the path with its variables left open, for the metrics. ``handler`` answers, or
    says what is to be run for the answer. ``guard`` says which keys it takes. ``slow`` ones leave
    the event loop to others while they run.
    """

    label: str
    method: str
    handler: Callable[[Request], Reply | Question]
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
        self._of_models = {endpoint.label: endpoint for endpoint in self._with_variables()}

    def find(self, path: str) -> tuple[Endpoint | None, str | None, str | None]:
        """The endpoint of a path, if there is one, and the model and version that it names."""
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed, None, None
        found = _MODEL_PATH.fullmatch(path)
        if found is None:
            return None, None, None
        before, name, version, after = found.groups()
        middle = "/models/NAME" if version is None else "/models/NAME/versions/VERSION"
        return self._of_models.get(before + middle + after), name, version

    def _without_variables(self) -> list[Endpoint]:
        return [
            Endpoint("/predict", "POST", self.predictor.predict),
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

    def _with_variables(self) -> Iterator[Endpoint]:
        yield Endpoint("/models/NAME", "GET", self._model)
        yield Endpoint("/admin/models/NAME/load", "POST", self._load, "admin", slow=True)
        for model in ("/models/NAME", "/models/NAME/versions/VERSION"):
            yield Endpoint(f"{model}/predict", "POST", self.predictor.predict)
            yield Endpoint(f"/v2{model}/infer", "POST", self._v2.infer)
            yield Endpoint(f"/v2{model}/ready", "GET", self._v2.ready)
            yield Endpoint(f"/v2{model}", "GET", self._v2.metadata)

    def _models(self) -> Reply:
        models = {name: _summary(slot) for name, slot in self._registry.slots.items()}
        return Reply(orjson.dumps({"models": models}))

    def _model(self, request: Request) -> Reply:
        model = self._registry.get(request.name)
        spec = orjson.loads(model.policy.spec.to_json())
        value = {
            "name": model.name,
            **_summary(self._registry.slots[model.name]),
            "sha256": model.policy.sha256,
            "spec": spec,
            "certificate": model.certificate,
        }
        return Reply(orjson.dumps(value), model.name)

    def _load(self, request: Request) -> Reply:
        model = self._registry.load(request.name or "")
        value = {"model": model.name, "version": model.version, "sha256": model.policy.sha256}
        return Reply(orjson.dumps(value), model.name)

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
