"""The BentoML service: ``bentoml serve trpo_deploy.serve.process.service:PolicyService``.

BentoML's supervisor imports this module too, so the import loads no model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import bentoml
import orjson

from trpo_deploy.serve.http.edge import Edge
from trpo_deploy.serve.messages import AsgiApp
from trpo_deploy.serve.models.info_metric import describe_models
from trpo_deploy.serve.models.registry import LoadResult, Registry
from trpo_deploy.serve.protocols.predict import Predictor
from trpo_deploy.serve.protocols.predict_request import PredictRequest
from trpo_deploy.serve.settings import Settings

_SETTINGS = Settings()
_log = logging.getLogger(__name__)


_request_load: Callable[[str], LoadResult] | None = None


def load_by(request_load: Callable[[str], LoadResult]) -> None:
    """Let ``/admin/models/NAME/load`` be done for all workers. Call it before the models load."""
    global _request_load
    _request_load = request_load


@cache
def open_registry() -> Registry:
    """The models of this process. The first call loads them."""
    registry = Registry(_SETTINGS.models, _request_load)
    for name, entry in registry.entries.items():
        if entry.error is not None:
            _log.warning("model %s: %s", name, entry.error)
    return registry


class EdgeService(bentoml.Service[Any]):  # type: ignore[misc] # bentoml exports it untyped
    """A BentoML service with :class:`Edge` as its outermost ASGI layer."""

    def to_asgi(self, is_main: bool = True) -> AsgiApp:
        """The application of a worker."""
        return add_middleware(Edge(super().to_asgi(is_main), _SETTINGS, open_registry), _SETTINGS)


def add_middleware(edge: Edge, settings: Settings) -> AsgiApp:
    """Wrap the edge in what is off by default: CORS headers, access log, tracing."""
    app: AsgiApp = edge
    if settings.cors_origins:
        from starlette.middleware.cors import CORSMiddleware

        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
        )
    if settings.access_log:
        from bentoml._internal.server.http.access import AccessLogMiddleware

        app = AccessLogMiddleware(app, True, True, True, True)
    if settings.tracing:
        from bentoml._internal.configuration.containers import BentoMLContainer
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

        app = OpenTelemetryMiddleware(app, tracer_provider=BentoMLContainer.tracer_provider.get())
    return app


@bentoml.service(
    name="trpo_deploy",
    service_class=EdgeService,
    # BentoML keeps each request in memory until this timeout (s), even after the answer.
    traffic={"timeout": 10},
    # add_middleware() puts these outside of the edge.
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": [".*"]},
)
class PolicyService:
    """Trained policies: observation in, action out."""

    def __init__(self) -> None:
        self._predictor = Predictor(open_registry(), _SETTINGS)

    @bentoml.api  # type: ignore[untyped-decorator]
    async def predict(
        self,
        observation: Any,
        model: str | None = None,
        version: str | None = None,
        deterministic: bool = True,
        state: str | None = None,
    ) -> dict[str, Any]:
        """Action for an observation.

        The edge answers this path before BentoML does. The method adds it to the service's
        schema, for ``bentoml.SyncHTTPClient``, and returns the same answer.
        """
        request = PredictRequest(observation, model, version, deterministic, state)
        reply = self._predictor.reply(request)
        value: dict[str, Any] = orjson.loads(reply.body)
        return value

    async def __metrics__(self, content: str) -> str:
        """BentoML's hook: add the served models to ``/metrics``."""
        return content + describe_models(open_registry().entries)
