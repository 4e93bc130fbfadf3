"""The table of endpoints, and the lookup of a path in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import orjson

from trpo_deploy.serve.http import health
from trpo_deploy.serve.http.access import AccessControl, AccessLevel
from trpo_deploy.serve.http.catalog import Catalog
from trpo_deploy.serve.messages import HTML, Reply, Request
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.protocols.batching import InferenceJob
from trpo_deploy.serve.protocols.inference_v2 import InferenceV2
from trpo_deploy.serve.protocols.openapi import DOCS_HEADERS, DOCS_PAGE, describe_service
from trpo_deploy.serve.protocols.predict import Predictor
from trpo_deploy.serve.settings import Settings

Handler: TypeAlias = Callable[[Request], Reply | InferenceJob]
Route: TypeAlias = "tuple[Endpoint | None, str | None, str | None]"
"""The endpoint of a path, if there is one, and the model and version in the path."""

_MODEL_PATH = re.compile("(/v2|/admin|)/models/([^/]*)(?:/versions/([^/]*))?(/[^/]*|)")
"""Groups: prefix, model name, version, suffix."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method and path."""

    label: str
    """The path with placeholders such as ``/models/NAME``; a label of the metrics."""
    method: str
    handler: Handler
    access: AccessLevel = "key"
    slow: bool = False
    """Run the handler in a thread, because it takes milliseconds."""


class Router:
    """Finds the endpoint of a path.

    Args:
        registry: The served models.
        settings: Limits.
        access: Decides who sees the names of the models in ``/readyz``.
    """

    def __init__(self, registry: Registry, settings: Settings, access: AccessControl) -> None:
        self._access = access
        self._registry = registry
        self._settings = settings
        self._v2 = InferenceV2(registry, settings)
        self._catalog = Catalog(registry)
        self.predictor = Predictor(registry, settings)
        self._fixed = {endpoint.label: endpoint for endpoint in self._fixed_paths()}
        self._of_models = {endpoint.label: endpoint for endpoint in self._model_paths()}

    def find(self, path: str) -> Route:
        """Find the endpoint of a path."""
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed, None, None
        found = _MODEL_PATH.fullmatch(path)
        if found is None:
            return None, None, None
        prefix, name, version, suffix = found.groups()
        middle = "/models/NAME" if version is None else "/models/NAME/versions/VERSION"
        return self._of_models.get(prefix + middle + suffix), name, version

    def _fixed_paths(self) -> list[Endpoint]:
        def live(_: Request) -> Reply:
            return health.live()

        def ready(request: Request) -> Reply:
            has_key = self._access.has_key(request.headers)
            return health.ready(self._registry, with_models=has_key)

        def docs(_: Request) -> Reply:
            return Reply(DOCS_PAGE, content_type=HTML, headers=DOCS_HEADERS)

        def openapi(_: Request) -> Reply:
            return Reply(orjson.dumps(describe_service(self._registry, self._settings)))

        return [
            Endpoint("/predict", "POST", self.predictor.predict),
            Endpoint("/models", "GET", lambda _: self._catalog.list_models()),
            Endpoint(health.LIVE, "GET", live, "open"),
            Endpoint(health.READY, "GET", ready, "open"),
            Endpoint("/docs", "GET", docs, "open"),
            Endpoint("/", "GET", docs, "open"),
            Endpoint("/docs.json", "GET", openapi, slow=True),
            Endpoint("/v2", "GET", lambda _: self._v2.server(), "open"),
            Endpoint("/v2/health/live", "GET", live, "open"),
            Endpoint("/v2/health/ready", "GET", ready, "open"),
            Endpoint("/v2/repository/index", "POST", lambda _: self._v2.index()),
        ]

    def _model_paths(self) -> Iterator[Endpoint]:
        yield Endpoint("/models/NAME", "GET", self._catalog.describe_model)
        load = self._catalog.load_model
        yield Endpoint("/admin/models/NAME/load", "POST", load, "admin", slow=True)
        for model in ("/models/NAME", "/models/NAME/versions/VERSION"):
            yield Endpoint(f"{model}/predict", "POST", self.predictor.predict)
            yield Endpoint(f"/v2{model}/infer", "POST", self._v2.infer)
            yield Endpoint(f"/v2{model}/ready", "GET", self._v2.ready)
            yield Endpoint(f"/v2{model}", "GET", self._v2.metadata)
