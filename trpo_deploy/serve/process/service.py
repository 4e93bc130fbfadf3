"""The BentoML service: ``bentoml serve trpo_deploy.serve.process.service:PolicyService``.

BentoML's supervisor imports this module too, so the import loads no model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import bentoml
import orjson

from trpo_deploy.serve.http.edge import Edge
from trpo_deploy.serve.messages import AsgiApp
from trpo_deploy.serve.models.info_metric import describe_models
from trpo_deploy.serve.models.own_registry import own_registry
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.models.view import LoadResult
from trpo_deploy.serve.models.watchdog import start_watchdog
from trpo_deploy.serve.protocols.predict import Predictor
from trpo_deploy.serve.protocols.predict_request import PredictRequest
from trpo_deploy.serve.settings import Settings

_SETTINGS = Settings()
_EXPOSED_HEADERS = (
    "X-Tensor-Dtype",
    "X-Tensor-Shape",
    "X-Model-Version",
    "Inference-Header-Content-Length",
    "Retry-After",
)
"""Headers that scripts of allowed origins may read, beside those that CORS always allows."""


_request_load: Callable[[str], LoadResult] | None = None


def load_by(request_load: Callable[[str], LoadResult]) -> None:
    """Let ``/admin/models/NAME/load`` be done for all workers. Call it before the models load."""
    global _request_load
    _request_load = request_load


@cache
def open_registry() -> Registry:
    """The models of this process. The first call loads them."""
    start_watchdog(_SETTINGS.run_seconds)
    store = _SETTINGS.model_store
    if store is not None:
        assert _request_load is not None
        return Registry(store, _request_load)
    registry, publisher = own_registry(_SETTINGS)
    publisher.start()
    return registry


class EdgeService(bentoml.Service[Any]):  # type: ignore[misc] # bentoml exports it untyped
    """A BentoML service with :class:`Edge` as its outermost ASGI layer.

    Attributes:
        edge: That of the application.
    """

    edge: Edge

    def to_asgi(self, is_main: bool = True) -> AsgiApp:
        """The application of a worker."""
        self.edge = Edge(super().to_asgi(is_main), _SETTINGS, open_registry)
        return add_middleware(self.edge, _SETTINGS)


def add_middleware(edge: Edge, settings: Settings) -> AsgiApp:
    """Wrap the edge in what is off by default: CORS headers and access log."""
    app: AsgiApp = edge
    if settings.cors_origins:
        from starlette.middleware.cors import CORSMiddleware

        cors = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=_EXPOSED_HEADERS,
        )
        cors.preflight_headers["X-Content-Type-Options"] = "nosniff"
        app = cors
    if settings.access_log:
        from bentoml._internal.server.http.access import AccessLogMiddleware

        app = AccessLogMiddleware(app, True, True, True, True)
    return app


@bentoml.service(
    name="trpo_deploy",
    service_class=EdgeService,
    # BentoML keeps each request in memory until this timeout (s), even after the answer.
    traffic={"timeout": 10},
    # add_middleware() puts the access log outside of the edge, which also traces.
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
